// The same with DeepSeek-V3's own vocabulary of 128,815 tokens, and what it costs.
using System.Diagnostics;
using System.Text.Json;
using Fathom.Testing;
using Fathom.Text;
using Xunit;

namespace Fathom.Inference.Tests;

public sealed class DeepSeekVocabularyTests(ITestOutputHelper output)
{
    private const int ModelVocabulary = 129_280;

    private static readonly Lazy<Tokenizer> DeepSeek = new(() => Tokenizer.Load(Golden.Shared("tokenizer")));

    [Fact]
    public void Documents_of_random_schemas_are_allowed_token_by_token()
    {
        Tokenizer tokenizer = DeepSeek.Value;
        int tokens = 0;
        for (int seed = 1000; seed < 1012; seed++)
        {
            JsonElement schema = new RandomSchemas(seed, seed % 2 == 0).Schema();
            TokenGrammar grammar = JsonConstraints.FromSchema(tokenizer, schema, seed % 2 == 0);
            string text = new RandomDocuments(seed, schema).Write();
            tokens += tokenizer.Encode(text).Length;
            Constrained.AssertAllowed(grammar, tokenizer, text);
        }

        output.WriteLine($"{tokens} tokens");
    }

    [Fact]
    public void Random_choices_are_valid_documents()
    {
        Tokenizer tokenizer = DeepSeek.Value;
        int complete = 0;
        for (int seed = 2000; seed < 2010; seed++)
        {
            JsonElement schema = new RandomSchemas(seed, strict: true).Schema();
            ConstrainedText text = Constrained.Generate(JsonConstraints.FromSchema(tokenizer, schema, true), tokenizer, new Random(seed), patience: 40);
            if (!text.IsComplete) continue;
            complete++;
            using JsonDocument document = JsonDocument.Parse(text.Text);
            Assert.Null(new SchemaValidator(schema).Problem(document.RootElement));
        }

        output.WriteLine($"{complete} of 10 ended by themselves");
        Assert.True(complete > 0);
    }

    [Fact]
    public void Timings()
    {
        Tokenizer tokenizer = DeepSeek.Value;
        long start = Stopwatch.GetTimestamp();
        TokenTrie trie = TokenTrie.Of(tokenizer);
        output.WriteLine($"tree of {trie.Labels.Length:N0} nodes for {trie.Tokens.Length:N0} tokens: {Milliseconds(start):F0} ms, once a tokenizer");
        JsonElement schema = JsonDocument.Parse(
            """
            {"type":"object","additionalProperties":false,"required":["title","when","people","place"],"properties":{
              "title":{"type":"string","maxLength":80},"when":{"type":"string","format":"date-time"},
              "people":{"type":"array","maxItems":20,"items":{"type":"object","additionalProperties":false,"required":["name","email","age"],"properties":{
                "name":{"type":"string"},"email":{"type":"string","format":"email"},"age":{"type":["integer","null"],"minimum":0,"maximum":150}}}},
              "place":{"anyOf":[{"type":"null"},{"enum":["Berlin","Paris","Beijing"]}]}}}
            """).RootElement;
        const string Text = """{"title": "A meeting about 日本 and \"quotes\"", "when": "2025-03-01T09:30:00Z", "people": [{"name": "Ada", "email": "ada@example.org", "age": 36}, {"name": "Bob", "email": "bob@example.org", "age": null}], "place": "Paris"}""";
        JsonConstraints.FromSchema(Constrained.Small, schema, true); // the code is compiled, the schema not yet
        start = Stopwatch.GetTimestamp();
        TokenGrammar grammar = JsonConstraints.FromSchema(tokenizer, schema, true);
        output.WriteLine($"compilation: {Milliseconds(start):F2} ms");
        Measure("schema", grammar, tokenizer, Text);
        Measure("JSON mode", JsonConstraints.AnyJson(tokenizer), tokenizer, Text);
    }

    private void Measure(string name, TokenGrammar grammar, Tokenizer tokenizer, string text)
    {
        int[] ids = tokenizer.Encode(text);
        var allowed = new ulong[(ModelVocabulary + 63) / 64];
        foreach (string round in (string[])["first", "second"])
        {
            ITokenConstraint constraint = grammar.Begin();
            double worst = 0, sum = 0;
            foreach (int id in ids)
            {
                allowed.AsSpan().Fill(ulong.MaxValue);
                long start = Stopwatch.GetTimestamp();
                constraint.Mask(allowed);
                constraint.Accept(id);
                double time = Milliseconds(start);
                worst = Math.Max(worst, time);
                sum += time;
                Assert.True((allowed[id / 64] >> id & 1) != 0);
            }

            Assert.True(constraint.IsComplete);
            output.WriteLine($"{name}, {round} time: {1000 * sum / ids.Length:F0} µs a token, at most {1000 * worst:F0} µs, {ids.Length} tokens");
        }
    }

    private static double Milliseconds(long start) => Stopwatch.GetElapsedTime(start).TotalMilliseconds;
}
