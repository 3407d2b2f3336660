using System.Text.Json.Nodes;
using Fathom.Text;

namespace Fathom.Inference;

/// <summary>A conversation to be answered, whatever API it came from.</summary>
public sealed record ChatConversation
{
    /// <summary>The messages, oldest first, without the beginning of the answer.</summary>
    public required IReadOnlyList<ChatMessage> Messages { get; init; }

    /// <summary>How the answer begins (DeepSeek's prefix completion), or null.</summary>
    public string? Prefix { get; init; }

    /// <summary>How the reasoning before it begins, or null.</summary>
    public string? ReasoningPrefix { get; init; }

    /// <summary>Functions that may be called.</summary>
    public IReadOnlyList<ToolDefinition> Tools { get; init; } = [];

    /// <summary>Whether they are.</summary>
    public ToolMode ToolMode { get; init; }

    /// <summary>The function of <see cref="ToolMode.Named"/>.</summary>
    public string? ToolName { get; init; }

    /// <summary>Whether an answer may hold several calls.</summary>
    public bool ParallelCalls { get; init; } = true;

    /// <summary>Whether the model is to reason first; null leaves it to the template.</summary>
    public bool? Thinking { get; init; }

    /// <summary>Further variables of the template.</summary>
    public JsonObject? Variables { get; init; }

    /// <summary>Whether functions may be called.</summary>
    public bool CallsTools => Tools.Count > 0 && ToolMode != ToolMode.None;
}
