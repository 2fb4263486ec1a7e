"""An OpenAI-compatible server whose answers carry calibrated confidences."""
