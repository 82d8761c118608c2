"""Rollouts in steps: the share of the requests that a new revision gets while it is compared with the old one."""
