// Whatever is chosen under the mask of a schema is a document of it, and its documents are never forbidden.
using System.Text;
using System.Text.Json;
using Fathom.Numerics;
using Fathom.Text;
using Xunit;

namespace Fathom.Inference.Tests;

public sealed class SchemaConstraintTests(ITestOutputHelper output)
{
    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void Random_choices_under_random_schemas_are_valid_documents(bool strict)
    {
        Tokenizer tokenizer = Constrained.Small;
        int complete = 0, all = 0, longest = 0;
        for (int seed = 0; seed < 60; seed++)
        {
            JsonElement schema = new RandomSchemas(seed, strict).Schema();
            TokenGrammar grammar = JsonConstraints.FromSchema(tokenizer, schema, strict);
            var validator = new SchemaValidator(schema);
            for (int draw = 0; draw < 4; draw++, all++)
            {
                ConstrainedText text = Constrained.Generate(grammar, tokenizer, new Random(seed * 100 + draw), patience: 150);
                longest = Math.Max(longest, text.Tokens.Length);
                if (!text.IsComplete) continue;
                complete++;
                using JsonDocument document = JsonDocument.Parse(text.Text);
                Assert.True(validator.Problem(document.RootElement) is null, $"seed {seed}: {validator.Problem(document.RootElement)}\n{schema}\n{text.Text}");
            }
        }

        output.WriteLine($"{complete} of {all} texts ended by themselves, all valid; the longest had {longest} tokens");
        Assert.True(complete > 0.9 * all, $"{complete} of {all}");
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void Documents_of_random_schemas_are_allowed_token_by_token(bool strict)
    {
        Tokenizer tokenizer = Constrained.Small;
        int documents = 0;
        for (int seed = 0; seed < 120; seed++)
        {
            JsonElement schema = new RandomSchemas(seed, strict).Schema();
            TokenGrammar grammar = JsonConstraints.FromSchema(tokenizer, schema, strict);
            for (int draw = 0; draw < 3; draw++, documents++)
            {
                string text = new RandomDocuments(seed * 10 + draw, schema).Write();
                using JsonDocument document = JsonDocument.Parse(text);
                Assert.Null(new SchemaValidator(schema).Problem(document.RootElement));
                Constrained.AssertAllowed(grammar, tokenizer, text);
            }
        }

        output.WriteLine($"{documents} documents");
    }

    [Fact]
    public void Masks_are_those_of_trying_every_token()
    {
        Tokenizer tokenizer = Constrained.Small;
        int masks = 0;
        for (int seed = 0; seed < 12; seed++)
        {
            TokenGrammar grammar = JsonConstraints.FromSchema(tokenizer, new RandomSchemas(seed, false).Schema(), false);
            AutomatonState state = grammar.Start;
            var random = new Random(seed);
            for (int step = 0; step < 25; step++, masks++)
            {
                ulong[] mask = grammar.Mask(ref state);
                List<int> allowed = [];
                for (int id = 0; id < tokenizer.VocabularySize; id++)
                {
                    bool possible = Possible(grammar, state, id);
                    Assert.True(possible == ((mask[id >> 6] >> id & 1) == 1), $"seed {seed}, step {step}, token '{tokenizer.Decode([id])}': possible {possible}");
                    if (possible) allowed.Add(id);
                }

                state = grammar.Next(state, allowed[random.Next(allowed.Count)], out bool ended);
                if (ended) break;
            }
        }

        output.WriteLine($"{masks} masks of {tokenizer.VocabularySize} tokens");
        Assert.True(masks > 100);
    }

    private static bool Possible(TokenGrammar grammar, AutomatonState state, int token)
    {
        try
        {
            grammar.Next(state, token, out _);
            return true;
        }
        catch (ArgumentException)
        {
            return false;
        }
    }

    [Fact]
    public void Json_mode_gives_objects_that_every_reader_reads()
    {
        Tokenizer tokenizer = Constrained.Small;
        TokenGrammar grammar = JsonConstraints.AnyJson(tokenizer);
        int complete = 0;
        for (int seed = 0; seed < 60; seed++)
        {
            ConstrainedText text = Constrained.Generate(grammar, tokenizer, new Random(seed), patience: 120);
            byte[] bytes = [.. text.Tokens.SelectMany(t => tokenizer.TokenBytes(t).ToArray())];
            var reader = new Utf8JsonReader(bytes, isFinalBlock: text.IsComplete, default); // a prefix is one of a document
            while (reader.Read()) Assert.True(reader.TokenType != JsonTokenType.String || reader.GetString() is not null);
            if (!text.IsComplete) continue;
            complete++;
            Assert.Equal(JsonValueKind.Object, JsonDocument.Parse(text.Text).RootElement.ValueKind);
        }

        output.WriteLine($"{complete} of 60 texts ended by themselves");
        Assert.InRange(complete, 40, 60);
        foreach (string text in (string[])["{}", "{ }", "\n{\n    \"a\\u0041\": [ ],\"\" :-0.5E+09, \"x\":{\"y\":[[],{},\"\\ud83d\\uDE00\"]}}"]) Constrained.AssertAllowed(grammar, tokenizer, text);
    }

    [Theory]
    [InlineData("""{"a":01}""")]
    [InlineData("""{"a":.5}""")]
    [InlineData("""{"a":1.}""")]
    [InlineData("""{"a":"\ud800"}""")]
    [InlineData("""{"a":"\udc00"}""")]
    [InlineData("""{"a":"\x"}""")]
    [InlineData("{\"a\":\"\n\"}")]
    [InlineData("""{"a":1,}""")]
    [InlineData("""{,}""")]
    [InlineData("[1]")]
    [InlineData("{  }")]
    [InlineData("{\n\n}")]
    [InlineData("{\r}")]
    [InlineData("""{"a":True}""")]
    public void Json_mode_forbids(string text) => Assert.False(Accepts(JsonConstraints.AnyJson(Constrained.Small), Encoding.UTF8.GetBytes(text)));

    [Fact]
    public void Bytes_that_are_not_utf8_are_forbidden()
    {
        TokenGrammar grammar = JsonConstraints.AnyJson(Constrained.Small);
        byte[] start = "{\"a\":\""u8.ToArray();
        foreach (byte[] wrong in (byte[][])[[0x80], [0xC0, 0x80], [0xC1], [0xE0, 0x9F], [0xED, 0xA0], [0xF0, 0x8F], [0xF4, 0x90], [0xF5], [0xFF], [0xC3, 0x22]])
            Assert.False(Accepts(grammar, [.. start, .. wrong]));
        foreach (byte[] right in (byte[][])[[0xC2, 0x80], [0xE0, 0xA0, 0x80], [0xED, 0x9F, 0xBF], [0xEE, 0x80, 0x80], [0xF0, 0x90, 0x80, 0x80], [0xF4, 0x8F, 0xBF, 0xBF]])
            Assert.True(Accepts(grammar, [.. start, .. right]));
    }

    [Fact]
    public void The_end_token_comes_exactly_where_the_document_is_complete()
    {
        Tokenizer tokenizer = Constrained.Small;
        int eos = tokenizer.EosId!.Value;
        ITokenConstraint number = JsonConstraints.FromSchema(tokenizer, JsonSerializer.SerializeToElement(new { type = "integer" }), true).Begin();
        Assert.DoesNotContain(eos, Constrained.Allowed(number, tokenizer));
        number.Accept(tokenizer.Encode("4").Single());
        Assert.Contains(eos, Constrained.Allowed(number, tokenizer));
        Assert.False(number.IsComplete);
        Assert.Throws<ArgumentException>(() => number.Accept(tokenizer.Encode("x").Single()));
        number.Accept(eos);
        Assert.True(number.IsComplete);

        ITokenConstraint other = JsonConstraints.FromSchema(tokenizer, JsonSerializer.SerializeToElement(new { type = "null" }), true, [eos, 3]).Begin();
        foreach (int id in tokenizer.Encode("null")) other.Accept(id);
        Assert.True(other.IsComplete); // nothing can follow
        Assert.Equal([eos, 3], Constrained.Allowed(other, tokenizer));
    }

    [Theory]
    [InlineData("""{"type":"object","properties":{"a":{"type":"string"}},"required":["a"]}""", "#: strict mode wants \"additionalProperties\": false")]
    [InlineData("""{"type":"object","properties":{"a":{"type":"string"}},"required":[],"additionalProperties":false}""", "#: property 'a' is not required")]
    [InlineData("""{"type":"array","items":{"type":"integer","multipleOf":3}}""", "#/items: keyword 'multipleOf' is not supported")]
    [InlineData("""{"type":"array","uniqueItems":true,"items":{"type":"null"}}""", "#: keyword 'uniqueItems'")]
    [InlineData("""{"type":"array"}""", "#: strict mode wants 'items'")]
    [InlineData("""{"anyOf":[{"type":"null"},{"type":"string","pattern":"(?=a)"}]}""", "#/anyOf/1: pattern '(?=a)' is not supported: '(?' other than '(?:'")]
    [InlineData("""{"anyOf":[{"type":"null"}],"minimum":3}""", "#: keyword 'minimum' beside 'anyOf'")]
    [InlineData("""{"type":"string","format":"color"}""", "#: format 'color' is not supported in strict mode; those that are: email")]
    [InlineData("""{"type":"strin"}""", "#: type \"strin\" is none of object")]
    [InlineData("""{"$ref":"#/$defs/a/b~1c","$defs":{"a":{}}}""", "#: $ref '#/$defs/a/b~1c' leads nowhere: there is no 'b/c' in #/$defs/a")]
    [InlineData("""{"$ref":"https://example.org/schema"}""", "#: $ref 'https://example.org/schema' is not supported")]
    [InlineData("""{"$ref":"#"}""", "admits no document")]
    [InlineData("""{"enum":[]}""", "#: enum is not an array with at least one element")]
    [InlineData("""{"type":"string","minLength":5,"maxLength":4}""", "#: minLength 5 is above maxLength 4")]
    [InlineData("""{"type":"integer","minimum":5,"maximum":4}""", "admits no document")]
    [InlineData("""{"type":"array","items":false,"minItems":1}""", "admits no document")]
    [InlineData("""{"type":"string","maxLength":-1}""", "#: maxLength -1 is not a whole number")]
    [InlineData("""{"type":"number","minimum":1e40}""", "#: minimum 1e40 is not supported")]
    [InlineData("""{"enum":["\ud800"]}""", "not valid Unicode")]
    [InlineData("[]", "#: a schema is an object, true or false")]
    [InlineData("true", "#: strict mode wants to know")]
    public void Strict_schemas_that_cannot_be_imposed_are_refused(string schema, string message)
    {
        FathomException refused = Assert.Throws<FathomException>(() => JsonConstraints.FromSchema(Constrained.Small, JsonDocument.Parse(schema).RootElement, strict: true));
        output.WriteLine(refused.Message);
        Assert.Contains(message, refused.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Without_strict_what_is_left_out_is_listed()
    {
        JsonElement schema = JsonDocument.Parse("""{"type":"object","properties":{"a":{"type":"integer","multipleOf":3},"b/c":{"type":"string","pattern":"\\bx","format":"color"}},"not":{}}""").RootElement;
        Assert.Equal(["#: not", "#/properties/a: multipleOf", "#/properties/b~1c: pattern", "#/properties/b~1c: format"], JsonConstraints.FromSchema(Constrained.Small, schema, false).Ignored);
    }

    [Fact]
    public void Alternatives_that_could_not_be_finished_are_not_begun()
    {
        // The first requires itself without end, the second is impossible.
        JsonElement schema = JsonDocument.Parse(
            """{"anyOf":[{"$ref":"#/$defs/a"},{"type":"array","items":{"type":"integer","minimum":3,"maximum":2},"minItems":1},{"type":"object","properties":{"x":{"type":"null"}}}],"$defs":{"a":{"type":"array","items":{"$ref":"#/$defs/a"},"minItems":1}}}""").RootElement;
        ITokenConstraint constraint = JsonConstraints.FromSchema(Constrained.Small, schema, false).Begin();
        Assert.All(Constrained.Allowed(constraint, Constrained.Small), id => Assert.Contains((char)Constrained.Small.TokenBytes(id)[0], "{ \n"));
    }

    internal static bool Accepts(TokenGrammar grammar, byte[] text)
    {
        AutomatonState state = grammar.Start;
        foreach (byte value in text)
        {
            int token = Enumerable.Range(0, Constrained.Small.VocabularySize).First(id => Constrained.Small.TokenBytes(id) is [var single] && single == value);
            try
            {
                state = grammar.Next(state, token, out _);
            }
            catch (ArgumentException)
            {
                return false;
            }
        }

        return true;
    }
}
