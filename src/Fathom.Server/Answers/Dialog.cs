using System.Text.Json.Nodes;
using Fathom.Inference;
using Fathom.Text;

namespace Fathom.Server.Answers;

/// <summary>A function that the model may call.</summary>
/// <param name="Name">Its name.</param>
/// <param name="Description">What it does, or null.</param>
/// <param name="Parameters">JSON schema of its arguments, or null for any.</param>
/// <param name="Strict">Whether arguments must follow the schema.</param>
internal sealed record ToolDefinition(string Name, string? Description, JsonObject? Parameters, bool Strict);

/// <summary>Whether functions are called.</summary>
internal enum ToolMode
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

/// <summary>What an answer's text must be.</summary>
internal enum AnswerFormat
{
    /// <summary>Anything.</summary>
    Text,

    /// <summary>A JSON object.</summary>
    Json,

    /// <summary>JSON that follows a schema.</summary>
    Schema,
}

/// <summary>A conversation to be answered, whatever the dialect that it came in.</summary>
internal sealed record Dialog
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

    /// <summary>Whether the model is to reason first; null where the request does not say.</summary>
    public bool? Thinking { get; init; }

    /// <summary>Further variables of the template.</summary>
    public JsonObject? Variables { get; init; }

    /// <summary>What the answer must be.</summary>
    public AnswerFormat Format { get; init; }

    /// <summary>Schema of <see cref="AnswerFormat.Schema"/>.</summary>
    public JsonNode? Schema { get; init; }

    /// <summary>Whether the schema is taken strictly.</summary>
    public bool StrictSchema { get; init; }

    /// <summary>The field that asked for the format, for errors.</summary>
    public string FormatField { get; init; } = "response_format";

    /// <summary>The field that holds the messages, for errors.</summary>
    public string MessagesField { get; init; } = "messages";

    /// <summary>How tokens are chosen.</summary>
    public required SamplingOptions Sampling { get; init; }

    /// <summary>How many answers.</summary>
    public int Choices { get; init; } = 1;

    /// <summary>Whose request it is, in the client's words, or null.</summary>
    public string? User { get; init; }

    /// <summary>Of the queue: higher first.</summary>
    public int Priority { get; init; }
}
