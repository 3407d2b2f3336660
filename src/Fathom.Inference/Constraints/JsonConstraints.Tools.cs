// Calls of tools in DeepSeek-V3's format: free text, then the calls between their control tokens, each with a name that exists and arguments
// of its schema. The marks are tokens of the grammar, not text: text that looks like them is text.
using System.Text.Json;
using Fathom.Numerics;
using Fathom.Text;

namespace Fathom.Inference;

/// <summary>A function that a model may call.</summary>
/// <param name="Name">One to 64 letters, digits, '_' or '-'.</param>
/// <param name="Parameters">JSON Schema of its arguments, an object; null for none.</param>
/// <param name="Strict">Whether arguments follow the schema, which must then be one for strict mode; if not, they are any JSON object.</param>
public sealed record ToolFunction(string Name, JsonElement? Parameters = null, bool Strict = false);

/// <summary>Whether tools are called.</summary>
public enum ToolUse
{
    /// <summary>Text, calls after it if the model wants.</summary>
    Auto,

    /// <summary>At least one call, and no text.</summary>
    Required,
}

public static partial class JsonConstraints
{
    /// <summary>Most functions of a request.</summary>
    public const int MaxFunctions = 128;

    private const int MaxNameLength = 64;

    /// <summary>
    /// Calls of tools as <see cref="ChatTemplate.DeepSeekV3"/> writes them:
    /// <c>&lt;｜tool▁calls▁begin｜&gt;&lt;｜tool▁call▁begin｜&gt;function&lt;｜tool▁sep｜&gt;NAME⏎```json⏎{…}⏎```&lt;｜tool▁call▁end｜&gt;…&lt;｜tool▁calls▁end｜&gt;</c>.
    /// The text is complete with the last of these.
    /// </summary>
    /// <param name="tokenizer">Of the model, with these control tokens.</param>
    /// <param name="functions">What may be called; for a named tool_choice this function alone.</param>
    /// <param name="use">Whether there must be a call.</param>
    /// <param name="parallel">Whether there may be several calls.</param>
    /// <param name="endTokens">Ids that may end the text, and only where it is complete; the tokenizer's end token if not given.</param>
    /// <param name="afterReasoning">Whether free text up to the token <c>&lt;/think&gt;</c> comes first; of use where calls are required.</param>
    /// <exception cref="FathomException">A name or schema cannot be used, or the tokenizer lacks a control token; one line with the function.</exception>
    public static TokenGrammar ToolCalls(
        Tokenizer tokenizer, IReadOnlyList<ToolFunction> functions, ToolUse use = ToolUse.Auto, bool parallel = true,
        IReadOnlyCollection<int>? endTokens = null, bool afterReasoning = false)
    {
        ArgumentNullException.ThrowIfNull(tokenizer);
        ArgumentNullException.ThrowIfNull(functions);
        if (functions.Count is 0 or > MaxFunctions) throw new FathomException($"tools: there are {functions.Count} functions; there must be 1 to {MaxFunctions}");
        var builder = new GrammarBuilder();
        var rules = new JsonRules(builder);
        int call = builder.Node(), done = builder.Node(), kind = builder.Node(), separator = builder.Node(), name = builder.Node(), closed = builder.Node(), after = builder.Node();
        builder.Token(call, Required(tokenizer, "<｜tool▁call▁begin｜>"), kind);
        builder.Literal(kind, "function", separator);
        builder.Token(separator, Required(tokenizer, "<｜tool▁sep｜>"), name);
        Dictionary<string, int> arguments = [];
        foreach (ToolFunction function in functions)
        {
            if (function.Name.Length is 0 or > MaxNameLength || !function.Name.All(c => char.IsAsciiLetterOrDigit(c) || c is '_' or '-'))
                throw new FathomException($"tools: a function's name is 1 to {MaxNameLength} letters, digits, '_' or '-', not '{function.Name.AsSpan(0, Math.Min(function.Name.Length, MaxNameLength))}'");
            int fenced = builder.Node(), written = builder.Node(), rule = Arguments(builder, rules, function);
            if (!arguments.TryAdd(function.Name, rule)) throw new FathomException($"tools: there are two functions of the name '{function.Name}'");
            builder.Literal(name, $"{function.Name}\n```json\n", fenced);
            builder.Call(fenced, rule, written);
            builder.Literal(written, "\n```", closed);
        }

        builder.Token(closed, Required(tokenizer, "<｜tool▁call▁end｜>"), after);
        if (parallel) builder.Character(after, '\n', call);
        builder.Token(after, Required(tokenizer, "<｜tool▁calls▁end｜>"), done);
        builder.Return(done);

        int start = builder.Node();
        builder.Token(start, Required(tokenizer, "<｜tool▁calls▁begin｜>"), call);
        if (use == ToolUse.Auto) FreeText(tokenizer, builder, start);
        if (afterReasoning) start = AfterReasoning(tokenizer, builder, start);
        Grammar grammar = builder.Build(start);
        foreach ((string function, int rule) in arguments)
        {
            if (grammar.Need(rule) > Automaton.MaxDepth) throw new FathomException($"function '{function}': {NoDocument}");
        }

        return Finish(tokenizer, endTokens, grammar, []);
    }

    /// <summary>Text of any bytes, which may end anywhere, with the marks of reasoning where the tokenizer has them.</summary>
    private static void FreeText(Tokenizer tokenizer, GrammarBuilder builder, int text)
    {
        builder.Bytes(text, 0, byte.MaxValue, text);
        builder.Return(text);
        foreach (string mark in (string[])["<think>", "</think>"])
        {
            if (tokenizer.TryGetId(mark) is { } id) builder.Token(text, id, text);
        }
    }

    private static int Arguments(GrammarBuilder builder, JsonRules rules, ToolFunction function)
    {
        if (!function.Strict) return rules.AnyObject();
        try
        {
            JsonElement parameters = function.Parameters ?? JsonElement.Parse("""{"type":"object","properties":{},"additionalProperties":false}""");
            return new SchemaCompiler(builder, rules, parameters, strict: true).Compile();
        }
        catch (FathomException refused)
        {
            throw new FathomException($"function '{function.Name}': {refused.Message}", refused);
        }
    }
}
