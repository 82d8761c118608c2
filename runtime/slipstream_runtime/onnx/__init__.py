"""The process of an ONNX Runtime pod: encoders, classifiers and rerankers behind the front that vLLM's have."""
