"""Requests and answers of the OpenAI API: parsing, headers, refusals, streams and token usage."""
