// Calls of tools in DeepSeek's formats: free text, then the calls between their control tokens, each with a name that exists and arguments
// of its schema. Two ways of writing them: V3 and R1 have function<sep>NAME and the arguments in a fence, V3.1 has NAME<sep>ARGUMENTS. A text
// may begin where a prompt has left off: in the reasoning, before the name of a call, before its arguments.
using System.Text.Json;
using Fathom.Numerics;
using Fathom.Text;

namespace Fathom.Inference;

/// <summary>A function that a model may call.</summary>
/// <param name="Name">One to 64 letters, digits, '_' or '-'.</param>
/// <param name="Parameters">JSON Schema of its arguments, an object; null for none (strict) or any.</param>
/// <param name="Strict">Whether the schema must be one for strict mode; if not, what strict mode refuses is not imposed.</param>
public sealed record ToolFunction(string Name, JsonElement? Parameters = null, bool Strict = false);

/// <summary>Whether tools are called.</summary>
public enum ToolUse
{
    /// <summary>Text, calls after it if the model wants.</summary>
    Auto,

    /// <summary>At least one call, and no text.</summary>
    Required,
}

/// <summary>The JSON that a text must be where it is no call.</summary>
/// <param name="Schema">Its schema; null for any object.</param>
/// <param name="Strict">Whether the schema must be one for strict mode.</param>
public sealed record JsonAnswer(JsonElement? Schema = null, bool Strict = false);

/// <summary>Where a text with calls begins, and how it is written.</summary>
/// <param name="Start">What the prompt has opened already.</param>
/// <param name="CallName">The function whose arguments come first, of <see cref="AnswerStart.CallArguments"/>.</param>
/// <param name="ShortForm">Whether calls are written as V3.1 does.</param>
/// <param name="Answer">What the text before or instead of calls must be; null for anything.</param>
public sealed record ToolCallForm(AnswerStart Start = AnswerStart.Content, string? CallName = null, bool ShortForm = false, JsonAnswer? Answer = null);

/// <summary>A function's name or schema that cannot be used.</summary>
/// <param name="function">The function.</param>
/// <param name="message">What is wrong with it.</param>
/// <param name="inner">What the schema's compiler said.</param>
public sealed class ToolFunctionException(string function, string message, Exception? inner = null) : FathomException($"function '{function}': {message}", inner)
{
    /// <summary>The function.</summary>
    public string Function { get; } = function;
}

public static partial class JsonConstraints
{
    /// <summary>Most functions of a request.</summary>
    public const int MaxFunctions = 128;

    private const int MaxNameLength = 64;

    /// <summary>
    /// Calls of tools as <see cref="ChatTemplate.DeepSeekV3"/> writes them:
    /// <c>&lt;｜tool▁calls▁begin｜&gt;&lt;｜tool▁call▁begin｜&gt;function&lt;｜tool▁sep｜&gt;NAME⏎```json⏎{…}⏎```&lt;｜tool▁call▁end｜&gt;…&lt;｜tool▁calls▁end｜&gt;</c>,
    /// or in the short form of V3.1. The text is complete with the last of these marks, or with the arguments of a single call that the prompt
    /// has begun. A tokenizer without the marks has them spelled.
    /// </summary>
    /// <param name="tokenizer">Of the model.</param>
    /// <param name="functions">What may be called; for a named tool_choice this function alone.</param>
    /// <param name="use">Whether there must be a call.</param>
    /// <param name="parallel">Whether there may be several calls.</param>
    /// <param name="endTokens">Ids that may end the text, and only where it is complete; the tokenizer's end token if not given.</param>
    /// <param name="form">Where the text begins and how it is written; null for a whole answer in the form of V3.</param>
    /// <exception cref="ToolFunctionException">A name or schema cannot be used.</exception>
    /// <exception cref="FathomException">There are no functions or too many, or the answer's schema cannot be used.</exception>
    public static TokenGrammar ToolCalls(
        Tokenizer tokenizer, IReadOnlyList<ToolFunction> functions, ToolUse use = ToolUse.Auto, bool parallel = true, IReadOnlyCollection<int>? endTokens = null, ToolCallForm? form = null)
    {
        ArgumentNullException.ThrowIfNull(tokenizer);
        ArgumentNullException.ThrowIfNull(functions);
        if (functions.Count is 0 or > MaxFunctions) throw new FathomException($"tools: there are {functions.Count} functions; there must be 1 to {MaxFunctions}");
        form ??= new ToolCallForm();
        var builder = new GrammarBuilder();
        var rules = new JsonRules(builder);
        List<string> ignored = [];
        int calls = builder.Node(), call = builder.Node(), name = builder.Node(), closed = builder.Node(), after = builder.Node(), done = builder.Node();
        builder.Mark(calls, tokenizer, AnswerMarks.Calls, call);
        int kind = Mark(call, AnswerMarks.Call);
        if (form.ShortForm) builder.Jump(kind, name);
        else builder.Mark(Text(kind, "function"), tokenizer, AnswerMarks.Separator, name);
        Dictionary<string, (int Place, int Rule)> arguments = []; // where each function's begin
        foreach (ToolFunction function in functions)
        {
            CheckName(function.Name);
            int rule = Arguments(builder, rules, function, ignored), written = builder.Node();
            int place = form.ShortForm ? Mark(Text(name, function.Name), AnswerMarks.Separator) : Text(name, $"{function.Name}\n{AnswerMarks.Fence}");
            if (!arguments.TryAdd(function.Name, (place, rule))) throw new FathomException($"tools: there are two functions of the name '{function.Name}'");
            builder.Call(place, rule, written);
            builder.Literal(written, form.ShortForm ? "" : "\n```", closed);
        }

        builder.Mark(closed, tokenizer, AnswerMarks.EndCall, after);
        if (parallel && form.ShortForm) builder.Jump(after, call);
        else if (parallel) builder.Character(after, '\n', call);
        builder.Mark(after, tokenizer, AnswerMarks.EndCalls, done);
        builder.Return(done);

        int start = form.Start switch
        {
            AnswerStart.CallName => name,
            AnswerStart.CallArguments => arguments.TryGetValue(form.CallName ?? "", out (int Place, int Rule) begun) ? parallel ? begun.Place : Alone(begun.Rule) : throw new ArgumentException($"the text begins with arguments of '{form.CallName}', which is not one of the functions", nameof(form)),
            _ when use == ToolUse.Required => form.Start == AnswerStart.Reasoning ? AfterReasoning(tokenizer, builder, calls) : calls,
            _ => form.Answer is { } answer ? JsonOrCalls(answer) : TextOrCalls(),
        };
        Grammar grammar = builder.Build(start);
        foreach ((string function, (int _, int rule)) in arguments)
        {
            if (grammar.Need(rule) > Automaton.MaxDepth) throw new ToolFunctionException(function, NoDocument);
        }

        if (grammar.Need(start) > Automaton.MaxDepth) throw new FathomException(NoDocument);
        return Finish(tokenizer, endTokens, grammar, ignored);

        int Mark(int from, string mark)
        {
            int to = builder.Node();
            builder.Mark(from, tokenizer, mark, to);
            return to;
        }

        // Of a single call that the prompt has begun nothing but the arguments is unknown; the marks after them are not worth their tokens.
        int Alone(int rule)
        {
            int from = builder.Node(), end = builder.Node();
            builder.Call(from, rule, end);
            builder.Return(end);
            return from;
        }

        int Text(int from, string text)
        {
            int to = builder.Node();
            builder.Literal(from, text, to);
            return to;
        }

        // As AnswerParser reads it: reasoning comes first or not at all, and marks within it are a part of it.
        int TextOrCalls()
        {
            var text = new MarkedText(builder, tokenizer, [(AnswerMarks.Calls, call), (AnswerMarks.Call, kind), (AnswerMarks.Think, null)], mayEnd: true);
            var reasoning = new MarkedText(builder, tokenizer, [(AnswerMarks.EndThink, text.Start)], mayEnd: false);
            return form.Start == AnswerStart.Reasoning
                ? reasoning.Start
                : new MarkedText(builder, tokenizer, [(AnswerMarks.Calls, call), (AnswerMarks.Call, kind), (AnswerMarks.Think, reasoning.Start)], mayEnd: true, text).Start;
        }

        int JsonOrCalls(JsonAnswer answer)
        {
            int either = builder.Node(), value = builder.Node(), end = builder.Node();
            builder.Jump(either, calls);
            rules.WhiteSpace(either, value);
            builder.Call(value, Answer(builder, rules, answer, ignored), end);
            builder.Return(end);
            return form.Start == AnswerStart.Reasoning ? AfterReasoning(tokenizer, builder, either) : either;
        }
    }

    private static void CheckName(string name)
    {
        if (name.Length is 0 or > MaxNameLength || !name.All(c => char.IsAsciiLetterOrDigit(c) || c is '_' or '-'))
            throw new FathomException($"tools: a function's name is 1 to {MaxNameLength} letters, digits, '_' or '-', not '{name.AsSpan(0, Math.Min(name.Length, MaxNameLength))}'");
    }

    private static int Answer(GrammarBuilder builder, JsonRules rules, JsonAnswer answer, List<string> ignored)
    {
        if (answer.Schema is not { } schema) return rules.AnyObject();
        var compiler = new SchemaCompiler(builder, rules, schema, answer.Strict);
        int rule = compiler.Compile();
        ignored.AddRange(compiler.Ignored);
        return rule;
    }

    private static int Arguments(GrammarBuilder builder, JsonRules rules, ToolFunction function, List<string> ignored)
    {
        JsonElement? schema = function.Parameters ?? (function.Strict ? JsonElement.Parse("""{"type":"object","properties":{},"additionalProperties":false}""") : null);
        try
        {
            return Answer(builder, rules, new JsonAnswer(schema, function.Strict), ignored);
        }
        catch (FathomException refused)
        {
            throw new ToolFunctionException(function.Name, refused.Message, refused);
        }
    }
}
