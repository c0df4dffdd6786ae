"""From cax to caxflow: its configuration translated, its daemon shadowed."""
