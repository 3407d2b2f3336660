namespace Fathom.Model;

/// <summary>The published architectures that share one definition here; they differ in the router and in defaults.</summary>
public enum ModelArchitecture
{
    /// <summary>DeepSeek-V2 and V2-Lite: softmax scores, greedy or group-limited choice.</summary>
    DeepseekV2,

    /// <summary>DeepSeek-V3, V3.1 and R1: sigmoid scores, choice steered by a routing bias.</summary>
    DeepseekV3,
}

/// <summary>The names that config.json gives to an architecture.</summary>
internal static class ModelArchitectures
{
    private static readonly (ModelArchitecture Value, string ModelType, string ClassName)[] Table =
    [
        (ModelArchitecture.DeepseekV2, "deepseek_v2", "DeepseekV2ForCausalLM"),
        (ModelArchitecture.DeepseekV3, "deepseek_v3", "DeepseekV3ForCausalLM"),
    ];

    public static string ModelType(this ModelArchitecture value) => Table[(int)value].ModelType;

    public static string ClassName(this ModelArchitecture value) => Table[(int)value].ClassName;

    /// <summary>By model_type, else by the class: models derived from V3 keep its class under a model_type of their own.</summary>
    public static ModelArchitecture? Find(string? modelType, string? className)
    {
        foreach (var row in Table)
        {
            if (row.ModelType == modelType) return row.Value;
        }

        foreach (var row in Table)
        {
            if (row.ClassName == className) return row.Value;
        }

        return null;
    }
}
