namespace Fathom.Model;

/// <summary>quantization_config of a checkpoint whose Linear weights are E4M3 with one multiplier per block.</summary>
/// <param name="BlockRows">weight_block_size[0]: output rows of a block.</param>
/// <param name="BlockColumns">weight_block_size[1]: input columns of a block.</param>
/// <param name="ScaleFormat">scale_fmt: "ue8m0" where scales are powers of two (V3.1), else null.</param>
public sealed record QuantizationConfig(int BlockRows = 128, int BlockColumns = 128, string? ScaleFormat = null);
