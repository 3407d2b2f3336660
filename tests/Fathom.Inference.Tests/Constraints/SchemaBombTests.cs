// Schemas that are made to cost: each is refused, or works, within a bounded time and memory.
using System.Diagnostics;
using System.Text;
using System.Text.Json;
using Fathom.Numerics;
using Fathom.Text;
using Xunit;

namespace Fathom.Inference.Tests;

public sealed class SchemaBombTests(ITestOutputHelper output)
{
    public static TheoryData<string, string?> Bombs => new()
    {
        { "ten thousand properties", "more than 5,000 properties" },
        { "a million values", "longer than 1,048,576 bytes" },
        { "ten thousand values", "more than 5,000 values" },
        { "long values", "grammar of more than 250,000 edges" },
        { "nested repetition", "grammar of more than 250,000 edges" },
        { "twenty thousand subschemas", "more than 10,000 subschemas" },
        { "a chain of five thousand references", null },
        { "doubling references", null },
        { "doubling arrays", null },
        { "a string of a billion", null },
        { "two thousand optional properties", null },
        { "a pattern of many readings", null },
        { "a pattern that remembers", null },
    };

    [Theory]
    [MemberData(nameof(Bombs))]
    public void Cost_is_bounded(string name, string? refusal)
    {
        JsonElement schema = JsonDocument.Parse(Bomb(name)).RootElement;
        Tokenizer tokenizer = Constrained.Small;
        JsonConstraints.AnyJson(tokenizer);
        long memory = GC.GetAllocatedBytesForCurrentThread(), start = Stopwatch.GetTimestamp();
        string result = "works";
        try
        {
            TokenGrammar grammar = JsonConstraints.FromSchema(tokenizer, schema, strict: false);
            output.WriteLine($"compiled in {Stopwatch.GetElapsedTime(start).TotalMilliseconds:F1} ms");
            ConstrainedText text = Constrained.Generate(grammar, tokenizer, new Random(1), patience: 10);
            result = $"works: {text.Tokens.Length} tokens";
        }
        catch (FathomException refused)
        {
            result = refused.Message;
        }

        TimeSpan time = Stopwatch.GetElapsedTime(start);
        memory = GC.GetAllocatedBytesForCurrentThread() - memory;
        output.WriteLine($"{name}: {time.TotalMilliseconds:F0} ms, {memory / 1e6:F0} MB allocated: {result}");
        if (refusal is null) Assert.StartsWith("works", result, StringComparison.Ordinal);
        else Assert.Contains(refusal, result, StringComparison.Ordinal);
        Assert.True(time < TimeSpan.FromSeconds(30), $"{time}");
        Assert.True(memory < 1L << 30, $"{memory} bytes");
    }

    private static string Bomb(string name)
    {
        return name switch
        {
            "ten thousand properties" => Closed("{}", 10_000),
            "two thousand optional properties" => Closed("{}", 2000),
            "a million values" => "{\"enum\":[" + Join(1_000_000, i => $"{i}") + "]}",
            "ten thousand values" => "{\"enum\":[" + Join(10_000, i => $"{i}") + "]}",
            "long values" => "{\"enum\":[" + Join(500, i => $"\"{i:D5}{new string('x', 1000)}\"") + "]}",
            "nested repetition" => """{"type":"string","pattern":"^(?:(?:(?:ab{900}){900}){900}){900}$"}""",
            "twenty thousand subschemas" => "{\"anyOf\":[" + Join(20_000, _ => "{}") + "]}",
            "a chain of five thousand references" => Definitions(5000, i => Reference(i + 1)),
            "doubling references" => Definitions(60, i => "{\"anyOf\":[" + Reference(i + 1) + "," + Reference(i + 1) + "]}"),
            "doubling arrays" => """{"$ref":"#/$defs/a","$defs":{"a":{"anyOf":[{"type":"array","items":{"$ref":"#/$defs/a"}},{"type":"array","items":{"$ref":"#/$defs/a"},"maxItems":5},{"type":"array","items":{"$ref":"#/$defs/a"},"maxItems":6}]}}}""",
            "a string of a billion" => """{"type":"string","minLength":3,"maxLength":1000000000}""",
            "a pattern of many readings" => """{"type":"string","pattern":"^(?:(?:a|a)*|(?:a*)*|(?:a|aa)+){1,50}b$"}""",
            "a pattern that remembers" => """{"type":"string","pattern":"^[a-z]*e[a-z]{100}$"}""",
            _ => throw new InvalidOperationException(name),
        };

        static string Closed(string value, int count) =>
            "{\"type\":\"object\",\"additionalProperties\":false,\"properties\":{" + Join(count, i => $"\"p{i}\":" + value) + "}}";
        static string Reference(int i) => "{\"$ref\":\"#/$defs/d" + i + "\"}";
        static string Definitions(int count, Func<int, string> body) =>
            "{\"$ref\":\"#/$defs/d0\",\"$defs\":{" + Join(count, i => $"\"d{i}\":" + body(i)) + ",\"d" + count + "\":{\"type\":\"null\"}}}";
    }

    private static string Join(int count, Func<int, string> part)
    {
        var text = new StringBuilder();
        for (int i = 0; i < count; i++) text.Append(i == 0 ? "" : ",").Append(part(i));
        return text.ToString();
    }

    [Fact]
    public void Work_is_counted_and_refused_without_harm()
    {
        var builder = new GrammarBuilder();
        var automaton = new Automaton(builder.Build(new JsonRules(builder).AnyValue()));
        AutomatonState open = automaton.Step(automaton.Start, (byte)'[');
        automaton.Work = Automaton.MaxWork;
        FathomException refused = Assert.Throws<FathomException>(() => automaton.Step(open, (byte)'1'));
        output.WriteLine(refused.Message);
        Assert.Contains("read in too many ways", refused.Message, StringComparison.Ordinal);
        automaton.Work = 0;
        Assert.True(automaton.Step(automaton.Step(open, (byte)'1'), (byte)']').Accepts);
        Assert.InRange(automaton.Work, 1, 1000);
    }

    [Fact]
    public void Random_documents_as_schemas_are_refused_or_compiled()
    {
        TokenGrammar json = JsonConstraints.AnyJson(Constrained.Small);
        string[] keywords = ["type", "properties", "required", "items", "anyOf", "enum", "$ref", "minItems", "pattern", "format", "minimum", "const", "allOf"];
        int refused = 0, compiled = 0;
        for (int seed = 0; seed < 80; seed++)
        {
            var random = new Random(seed);
            ConstrainedText text = Constrained.Generate(json, Constrained.Small, random, patience: 40);
            if (!text.IsComplete) continue;
            using JsonDocument any = JsonDocument.Parse($$"""{"{{keywords[random.Next(keywords.Length)]}}":{{text.Text}},"{{keywords[random.Next(keywords.Length)]}}":["string",{{text.Text}}]}""");
            foreach (bool strict in (bool[])[true, false])
            {
                try
                {
                    JsonConstraints.FromSchema(Constrained.Small, any.RootElement, strict);
                    compiled++;
                }
                catch (FathomException)
                {
                    refused++;
                }
            }
        }

        output.WriteLine($"{refused} refused, {compiled} compiled, nothing else");
        Assert.True(refused > 0 && compiled > 0);
    }

    [Fact]
    public void What_is_kept_is_dropped_and_texts_go_on()
    {
        // Each index of an array with a limit is a state of its own, with a mask of its own.
        Tokenizer tokenizer = Constrained.Small;
        JsonElement schema = JsonDocument.Parse("""{"type":"array","items":{"type":"boolean"},"minItems":60000,"maxItems":60000}""").RootElement;
        TokenGrammar grammar = JsonConstraints.FromSchema(tokenizer, schema, strict: true);
        int[] item = tokenizer.Encode("true"), comma = tokenizer.Encode(","), open = tokenizer.Encode("["), close = tokenizer.Encode("]");
        ITokenConstraint constraint = grammar.Begin();
        var allowed = new ulong[(tokenizer.VocabularySize + 63) / 64];
        Feed(open);
        for (int i = 0; i < 60_000; i++) Feed(i == 0 ? item : [.. comma, .. item]);
        Feed(close);
        Assert.True(constraint.IsComplete);
        int generation = grammar.Start.Generation;
        output.WriteLine($"states were dropped {generation} times");
        Assert.True(generation > 0);

        void Feed(int[] tokens)
        {
            foreach (int token in tokens)
            {
                allowed.AsSpan().Fill(ulong.MaxValue);
                constraint.Mask(allowed);
                Assert.True((allowed[token / 64] >> token & 1) != 0);
                constraint.Accept(token);
            }
        }
    }
}
