// Drives constraints as an engine does: a mask over zeros, a choice, a token.
using Fathom.Text;
using Xunit;

namespace Fathom.Inference.Tests;

/// <summary>What came of a generation under a constraint.</summary>
internal sealed record ConstrainedText(string Text, int[] Tokens, bool IsComplete);

/// <summary>Generations without a model.</summary>
internal static class Constrained
{
    public static readonly string[] ToolTokens =
        ["<｜tool▁calls▁begin｜>", "<｜tool▁calls▁end｜>", "<｜tool▁call▁begin｜>", "<｜tool▁call▁end｜>", "<｜tool▁sep｜>", "<think>", "</think>"];

    private static readonly Lazy<Tokenizer> LazySmall = new(() => BpeTrainer.Train(
        [string.Join('\n', Enumerable.Range(0, 60).Select(i => $$"""{"name": "the small {{i}}", "value": [{{i * 37}}, -1.5e3, true, null], "é": "日本 😀\n\"x\"", "date": "2024-02-2{{i % 10}}T10:00:00Z"}"""))],
        new BpeTrainerOptions { VocabularySize = 520, SpecialTokens = [.. SpecialTokenNames.All, .. ToolTokens] }));

    /// <summary>A vocabulary of some hundred tokens that know JSON.</summary>
    public static Tokenizer Small => LazySmall.Value;

    /// <summary>Ids that may come next, found by the mask.</summary>
    public static List<int> Allowed(ITokenConstraint constraint, Tokenizer tokenizer, int beyond = 3)
    {
        int vocabulary = tokenizer.VocabularySize + beyond;
        var mask = new ulong[(vocabulary + 63) / 64];
        mask.AsSpan().Fill(ulong.MaxValue);
        constraint.Mask(mask);
        return [.. Enumerable.Range(0, vocabulary).Where(id => (mask[id / 64] >> id & 1) != 0)];
    }

    /// <summary>
    /// Chooses uniformly among the tokens that are allowed; after <paramref name="patience"/> tokens those that close something first, since
    /// uniform choices open more than they close.
    /// </summary>
    public static ConstrainedText Generate(TokenGrammar grammar, Tokenizer tokenizer, Random random, int patience, Action<ITokenConstraint, List<int>>? each = null)
    {
        ITokenConstraint constraint = grammar.Begin();
        List<int> tokens = [];
        while (!constraint.IsComplete && tokens.Count < 20 * patience)
        {
            List<int> allowed = Allowed(constraint, tokenizer);
            each?.Invoke(constraint, allowed);
            Assert.True(allowed.Count > 0, $"a dead end after {tokens.Count} tokens: {tokenizer.Decode([.. tokens])}");
            int token = allowed[random.Next(allowed.Count)];
            if (tokens.Count > patience)
            {
                int close = allowed.FindIndex(id => tokenizer.TokenBytes(id) is [(byte)'}' or (byte)']' or (byte)'"' or (byte)'n', ..]);
                if (close >= 0 && random.Next(3) > 0) token = allowed[close];
            }

            constraint.Accept(token);
            tokens.Add(token);
        }

        string text = tokenizer.Decode([.. tokens.Where(t => t != tokenizer.EosId)]);
        return new ConstrainedText(text, [.. tokens], constraint.IsComplete);
    }

    /// <summary>Asserts that a text is allowed token by token, and complete at its end and not before.</summary>
    public static void AssertAllowed(TokenGrammar grammar, Tokenizer tokenizer, string text)
    {
        List<int> ids = [];
        tokenizer.Encode(text, ids, allowSpecial: false);
        ITokenConstraint constraint = grammar.Begin();
        for (int i = 0; i < ids.Count; i++)
        {
            List<int> allowed = Allowed(constraint, tokenizer);
            Assert.True(
                allowed.Contains(ids[i]) && !constraint.IsComplete,
                $"'{tokenizer.Decode([ids[i]])}' is not allowed after '{tokenizer.Decode(ids.GetRange(0, i).ToArray())}', of {text}");
            constraint.Accept(ids[i]);
        }

        Assert.True(constraint.IsComplete || Allowed(constraint, tokenizer).Contains(tokenizer.EosId!.Value), $"not complete: {text}");
    }
}
