"""The smallest configuration of each architecture that has all its parts, for tests."""

TINY: dict[str, dict[str, object]] = {
    "lstm": {"hidden": 8, "layers": 2},
    "gru": {"hidden": 8, "layers": 2, "stack_residual": True},
    "mamba2": {"d_model": 16, "layers": 2, "d_state": 4, "headdim": 8, "chunk_size": 3},
    "gpt2": {"d_model": 16, "layers": 2, "heads": 4},
    "linformer": {"d_model": 16, "layers": 2, "heads": 4, "rank": 7},
    "performer": {"d_model": 16, "layers": 2, "heads": 4, "features": 6, "chunk_size": 3},
}
"""Options by architecture; widths of input and output are the test's."""
