// Turns messages into the text that a chat model was trained on, with the template that comes with the model.
// Templates are Jinja programs, compiled here as Hugging Face compiles them (trim_blocks, lstrip_blocks, no HTML
// escaping, undefined prints as nothing). Parsed once, rendered many times, on any number of threads.
using Fathom.Text.Templates;

namespace Fathom.Text;

/// <summary>A parsed chat template: immutable, and safe to render from many threads at once.</summary>
/// <remarks>
/// Wider than Jinja: <c>map</c>, <c>select</c> and <c>items()</c> give lists instead of generators, lists have
/// <c>append</c>, and <c>x is defined if …</c> parses. Narrower: no template files and inheritance, recursive loops,
/// argument unpacking, <c>varargs</c>, numbers in base 2, 8 or 16, and HTML-safe strings (<c>escape</c> gives plain text);
/// <c>upper</c> and <c>lower</c> map one character to one.
/// </remarks>
public sealed partial class ChatTemplate
{
    private readonly IReadOnlyList<Statement> _body;
    private readonly ChatTemplate? _forTools;

    private ChatTemplate(
        string name, string source, IReadOnlyList<Statement> body, IReadOnlyList<string> notCovered, IReadOnlyDictionary<string, string> specialTokens, ChatTemplate? forTools)
    {
        (Name, Source, NotCovered, SpecialTokens) = (name, source, notCovered, specialTokens);
        (_body, _forTools) = (body, forTools);
    }

    /// <summary>The name used in errors: a file path, or what <see cref="Parse(string, string?)"/> was given.</summary>
    public string Name { get; }

    /// <summary>The template as written.</summary>
    public string Source { get; }

    /// <summary>Variables such as <c>bos_token</c> and <c>eos_token</c> by name, from the model's tokenizer_config.json.</summary>
    public IReadOnlyDictionary<string, string> SpecialTokens { get; }

    /// <summary>
    /// Filters and tests that the template names and that are not covered, with their places. Rendering fails only when
    /// it reaches one of them, so a template may be usable nevertheless.
    /// </summary>
    public IReadOnlyList<string> NotCovered { get; }

    /// <summary>Parses a template.</summary>
    /// <param name="source">The template.</param>
    /// <param name="name">What errors call it.</param>
    /// <exception cref="ChatTemplateException">The template is malformed or uses a tag that is not covered.</exception>
    public static ChatTemplate Parse(string source, string? name = null) =>
        Parse(source, name ?? "template", new Dictionary<string, string>(), forTools: null);

    /// <summary>Renders a conversation.</summary>
    /// <param name="messages">The messages, oldest first.</param>
    /// <param name="options">The generation prompt, tools and further variables; null for none.</param>
    /// <returns>The text to tokenize with special tokens parsed and no begin-of-sequence token added.</returns>
    /// <exception cref="ChatTemplateException">
    /// The template refused the messages (<see cref="ChatTemplateException.RaisedByTemplate"/>), failed, or reached a limit.
    /// </exception>
    public string Render(IReadOnlyList<ChatMessage> messages, ChatTemplateOptions? options = null)
    {
        ArgumentNullException.ThrowIfNull(messages);
        options ??= new();
        if (_forTools is not null && options.Tools is { Count: > 0 }) return _forTools.Render(messages, options);
        ChatTemplateLimits limits = options.Limits;
        if (limits.MaxDepth > 1000) throw new ChatTemplateException($"chat template limits: MaxDepth is at most 1000, not {limits.MaxDepth}");

        RenderRun run = new(Name, limits, options.Now);
        Scope variables = TemplateInput.Variables(SpecialTokens, messages, options);
        TextBuffer output = new(run);
        StatementExecutor.Run(run, new Scope(variables), _body, output);
        return output.ToString();
    }

    private static ChatTemplate Parse(string source, string name, IReadOnlyDictionary<string, string> specialTokens, ChatTemplate? forTools)
    {
        ArgumentNullException.ThrowIfNull(source);
        List<string> notCovered = [];
        IReadOnlyList<Statement> body = StatementParser.Run(new SourceText(name, source), notCovered);
        return new(name, source, body, notCovered, specialTokens, forTools);
    }
}
