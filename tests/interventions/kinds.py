"""What tests of many variants share: which families run them one by one, and which layers have a hook point."""

#: Families whose variants run one by one, and a word of the reason.
ALONE = {"nemotron_h_omni": "Mamba", "gemma3n": "position", "gemma4": "position"}
ALONE |= {"muse_spark": "sliding window", "dots3_note": "indexer"}


def having(model, point):
    """The layers that have a hook point."""
    return [layer for layer, sites in enumerate(model.site_map.layers["decoder"]) if point in sites]
