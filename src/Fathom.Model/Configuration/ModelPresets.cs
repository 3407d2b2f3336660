// Named configurations. The published ones have the shapes of the released checkpoints; the small ones keep every mechanism of
// V3 (latent attention, groups, shared expert, MTP) at a size that trains on a laptop.
using Fathom.Compute.Operators;
using Fathom.Numerics;

namespace Fathom.Model;

/// <summary>Configurations by name.</summary>
public static class ModelPresets
{
    private static readonly RopeScaling FortyTimes = new(40, 4096, Mscale: 1, MscaleAllDim: 1);

    private static readonly ModelConfig V3 = new()
    {
        NumNextnPredictLayers = 1,
        RopeScaling = FortyTimes,
        QuantizationConfig = new QuantizationConfig(),
    };

    private static readonly ModelConfig V2 = new()
    {
        Architecture = ModelArchitecture.DeepseekV2,
        VocabSize = 102400,
        HiddenSize = 5120,
        IntermediateSize = 12288,
        MoeIntermediateSize = 1536,
        NumHiddenLayers = 60,
        NumAttentionHeads = 128,
        NSharedExperts = 2,
        NRoutedExperts = 160,
        RoutedScalingFactor = 16,
        TopkMethod = TopKMethod.GroupLimitedGreedy,
        NGroup = 8,
        TopkGroup = 3,
        NumExpertsPerTok = 6,
        FirstKDenseReplace = 1,
        NormTopkProb = false,
        ScoringFunc = ScoringFunction.Softmax,
        RopeScaling = FortyTimes,
        BosTokenId = 100000,
        EosTokenIds = [100001],
    };

    // The paper's initial standard deviation of 0.006 belongs to a width of 7168. Narrow models learn faster from larger weights:
    // at width 256, a hundred steps from 0.006, 0.02 and 0.04 ended at 1.46, 1.34 and 1.33 bits a byte.
    private static readonly ModelConfig Small = new()
    {
        InitializerRange = 0.02,
        VocabSize = 8192,
        HiddenSize = 384,
        IntermediateSize = 1024,
        MoeIntermediateSize = 256,
        NumHiddenLayers = 4,
        NumNextnPredictLayers = 1,
        NumAttentionHeads = 6,
        NRoutedExperts = 16,
        KvLoraRank = 128,
        QLoraRank = 192,
        QkRopeHeadDim = 32,
        QkNopeHeadDim = 64,
        VHeadDim = 64,
        NGroup = 4,
        TopkGroup = 2,
        NumExpertsPerTok = 4,
        FirstKDenseReplace = 1,
        MaxPositionEmbeddings = 2048,
        Dtype = DType.F32,
    };

    private static readonly (string Name, ModelConfig Config)[] Table =
    [
        ("deepseek-v3", V3),
        ("deepseek-v3.1", V3 with { QuantizationConfig = new QuantizationConfig(ScaleFormat: "ue8m0") }),
        ("deepseek-r1", V3),
        ("deepseek-v2", V2),
        ("deepseek-v2-lite", V2 with
        {
            HiddenSize = 2048,
            IntermediateSize = 10944,
            MoeIntermediateSize = 1408,
            NumHiddenLayers = 27,
            NumAttentionHeads = 16,
            NRoutedExperts = 64,
            RoutedScalingFactor = 1,
            QLoraRank = 0,
            TopkMethod = TopKMethod.Greedy,
            NGroup = 1,
            TopkGroup = 1,
            RopeScaling = FortyTimes with { Mscale = 0.707, MscaleAllDim = 0.707 },
        }),
        ("small", Small),
        ("quickstart", Small with
        {
            InitializerRange = 0.04,
            VocabSize = 4096,
            HiddenSize = 256,
            IntermediateSize = 640,
            MoeIntermediateSize = 128,
            NumHiddenLayers = 3,
            NumAttentionHeads = 4,
            KvLoraRank = 64,
            QLoraRank = 96,
            QkRopeHeadDim = 16,
            QkNopeHeadDim = 32,
            VHeadDim = 32,
        }),
        ("nano", Small with
        {
            VocabSize = 512,
            HiddenSize = 64,
            IntermediateSize = 160,
            MoeIntermediateSize = 32,
            NumHiddenLayers = 3,
            NumAttentionHeads = 2,
            NRoutedExperts = 8,
            KvLoraRank = 32,
            QLoraRank = 48,
            QkRopeHeadDim = 16,
            QkNopeHeadDim = 16,
            VHeadDim = 16,
            NumExpertsPerTok = 2,
            MaxPositionEmbeddings = 512,
        }),
    ];

    /// <summary>All names, published models first.</summary>
    public static IEnumerable<string> Names => Table.Select(row => row.Name);

    /// <summary>The configuration of that name.</summary>
    /// <exception cref="FathomException">No preset has that name; the message lists those there are.</exception>
    public static ModelConfig Get(string name)
    {
        foreach (var row in Table)
        {
            if (row.Name == name) return row.Config.Validate($"preset {name}");
        }

        throw new FathomException($"there is no model preset \"{name}\"; there are {string.Join(", ", Names)}");
    }
}
