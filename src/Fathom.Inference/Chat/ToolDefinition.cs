using System.Text.Json.Nodes;

namespace Fathom.Inference;

/// <summary>A function that the model may call.</summary>
/// <param name="Name">Its name.</param>
/// <param name="Description">What it does, or null.</param>
/// <param name="Parameters">JSON schema of its arguments, or null for any.</param>
/// <param name="Strict">Whether arguments must follow the schema.</param>
public sealed record ToolDefinition(string Name, string? Description, JsonObject? Parameters, bool Strict);

/// <summary>Whether functions are called.</summary>
public enum ToolMode
{
    /// <summary>None is.</summary>
    None,

    /// <summary>The model decides.</summary>
    Auto,

    /// <summary>At least one is.</summary>
    Required,

    /// <summary>A certain one is.</summary>
    Named,
}
