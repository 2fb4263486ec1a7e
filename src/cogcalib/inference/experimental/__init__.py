"""Backends not yet proven on a real engine: vLLM, and OpenAI-compatible endpoints."""
