using System.Text.Json.Nodes;

namespace Fathom.Text;

/// <summary>In which form a template receives the <c>arguments</c> of tool calls.</summary>
public enum ToolArgumentForm
{
    /// <summary>As the messages hold them.</summary>
    AsGiven,

    /// <summary>As JSON text: what clients of the API send, and what DeepSeek's published template joins into its output.</summary>
    Text,

    /// <summary>As a JSON object: what templates expect that write <c>arguments | tojson</c> or loop over the arguments.</summary>
    Object,
}

/// <summary>What a template may use besides the messages.</summary>
public sealed record ChatTemplateOptions
{
    /// <summary>Whether the output ends with the tokens that begin an answer. Seen as <c>add_generation_prompt</c>.</summary>
    public bool AddGenerationPrompt { get; init; }

    /// <summary>Replaces the template's own <c>bos_token</c>; the empty string when the tokenizer adds it.</summary>
    public string? BosToken { get; init; }

    /// <summary>Replaces the template's own <c>eos_token</c>.</summary>
    public string? EosToken { get; init; }

    /// <summary>The functions that the model may call, as JSON schemas. Seen as <c>tools</c>, which is none when null.</summary>
    public JsonArray? Tools { get; init; }

    /// <summary>The form of tool-call arguments; see <see cref="ToolArgumentForm"/>.</summary>
    public ToolArgumentForm ToolArguments { get; init; }

    /// <summary>Further variables (<c>chat_template_kwargs</c>, such as <c>thinking</c> or <c>documents</c>); they win over all others.</summary>
    public JsonObject? Variables { get; init; }

    /// <summary>The time that <c>strftime_now</c> shows; null is now, in local time.</summary>
    public DateTime? Now { get; init; }

    /// <summary>What a rendering may use before it is stopped.</summary>
    public ChatTemplateLimits Limits { get; init; } = ChatTemplateLimits.Default;
}
