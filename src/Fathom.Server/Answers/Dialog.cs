using System.Text.Json.Nodes;
using Fathom.Inference;

namespace Fathom.Server.Answers;

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

/// <summary>A request to answer a conversation, whatever the dialect that it came in.</summary>
internal sealed record Dialog
{
    /// <summary>What was said, and how to go on.</summary>
    public required ChatConversation Conversation { get; init; }

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
