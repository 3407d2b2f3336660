// Structured output: what a text must be (a JSON object, a document of a schema, calls of tools) as a mask over tokens.
using System.Text.Json;
using Fathom.Numerics;
using Fathom.Text;

namespace Fathom.Inference;

/// <summary>Compiles constraints on what a model writes. See docs/structured-output.md for what schemas may say.</summary>
public static partial class JsonConstraints
{
    private static readonly string NoDocument =
        $"the JSON schema admits no document that ends within {Automaton.MaxDepth + 1} levels of nesting: something that it requires is impossible or contains itself";

    /// <summary>JSON mode: one JSON object of any content, and nothing else.</summary>
    /// <param name="tokenizer">Of the model.</param>
    /// <param name="endTokens">Ids that may end the text, and only where it is complete; the tokenizer's end token if not given.</param>
    /// <param name="afterReasoning">Whether free text up to <c>&lt;/think&gt;</c> comes first.</param>
    public static TokenGrammar AnyJson(Tokenizer tokenizer, IReadOnlyCollection<int>? endTokens = null, bool afterReasoning = false)
    {
        ArgumentNullException.ThrowIfNull(tokenizer);
        var builder = new GrammarBuilder();
        var rules = new JsonRules(builder);
        return Document(tokenizer, endTokens, afterReasoning, builder, rules, rules.AnyObject(), []);
    }

    /// <summary>One JSON document that a schema describes. Properties come in the schema's order.</summary>
    /// <param name="tokenizer">Of the model.</param>
    /// <param name="schema">A JSON Schema.</param>
    /// <param name="strict">
    /// Whether objects must be closed, all properties required, and what is not supported refused; if not, it is left out and listed in
    /// <see cref="TokenGrammar.Ignored"/>.
    /// </param>
    /// <param name="endTokens">Ids that may end the text, and only where it is complete; the tokenizer's end token if not given.</param>
    /// <param name="afterReasoning">Whether free text up to <c>&lt;/think&gt;</c> comes first.</param>
    /// <exception cref="FathomException">The schema is broken, too large, admits no document, or (strict) is not supported; one line with the place.</exception>
    public static TokenGrammar FromSchema(
        Tokenizer tokenizer, JsonElement schema, bool strict, IReadOnlyCollection<int>? endTokens = null, bool afterReasoning = false)
    {
        ArgumentNullException.ThrowIfNull(tokenizer);
        var builder = new GrammarBuilder();
        var rules = new JsonRules(builder);
        var compiler = new SchemaCompiler(builder, rules, schema, strict);
        return Document(tokenizer, endTokens, afterReasoning, builder, rules, compiler.Compile(), compiler.Ignored);
    }

    private static TokenGrammar Document(
        Tokenizer tokenizer, IReadOnlyCollection<int>? endTokens, bool afterReasoning, GrammarBuilder builder, JsonRules rules, int rule, IReadOnlyList<string> ignored)
    {
        int start = builder.Node(), value = builder.Node(), end = builder.Node();
        rules.WhiteSpace(start, value);
        builder.Call(value, rule, end);
        builder.Return(end);
        if (afterReasoning) start = AfterReasoning(tokenizer, builder, start);
        Grammar grammar = builder.Build(start);
        if (grammar.Need(start) > Automaton.MaxDepth) throw new FathomException(NoDocument);
        return Finish(tokenizer, endTokens, grammar, ignored);
    }

    private static TokenGrammar Finish(Tokenizer tokenizer, IReadOnlyCollection<int>? endTokens, Grammar grammar, IReadOnlyList<string> ignored)
    {
        endTokens ??= tokenizer.EosId is { } id ? [id] : [];
        if (endTokens.Count == 0 || endTokens.Any(token => token < 0)) throw new ArgumentException("a constraint needs an end token: the tokenizer has none, and none was given", nameof(endTokens));
        return new TokenGrammar(tokenizer, grammar, endTokens, ignored);
    }

    /// <summary>Free text, the end of reasoning, and at most one empty line before what follows.</summary>
    private static int AfterReasoning(Tokenizer tokenizer, GrammarBuilder builder, int next)
    {
        int after = builder.Node();
        builder.Jump(after, next);
        builder.Character(after, '\n', next); // white space before the value may add a second
        return new MarkedText(builder, tokenizer, [(AnswerMarks.EndThink, after)], mayEnd: false).Start;
    }
}
