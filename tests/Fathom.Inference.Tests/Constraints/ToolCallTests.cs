// Calls of tools: what comes is read back by the rules of the template, with arguments of the schema.
using System.Text.Json;
using System.Text.RegularExpressions;
using Fathom.Numerics;
using Fathom.Text;
using Xunit;

namespace Fathom.Inference.Tests;

public sealed class ToolCallTests(ITestOutputHelper output)
{
    private static readonly JsonElement Weather = JsonDocument.Parse(
        """{"type":"object","properties":{"city":{"type":"string","maxLength":6},"unit":{"enum":["C","F"]}},"required":["city","unit"],"additionalProperties":false}""").RootElement;

    private static readonly ToolFunction[] Functions = [new("weather", Weather, Strict: true), new("now", Strict: true), new("weather_2", Strict: false)];

    [Theory]
    [InlineData(true, ToolUse.Required)]
    [InlineData(false, ToolUse.Required)]
    [InlineData(true, ToolUse.Auto)]
    public void Calls_name_a_function_and_carry_its_arguments(bool parallel, ToolUse use)
    {
        Tokenizer tokenizer = Constrained.Small;
        TokenGrammar grammar = JsonConstraints.ToolCalls(tokenizer, Functions, use, parallel);
        var validator = new SchemaValidator(Weather);
        int begin = tokenizer.TryGetId(AnswerMarks.Calls)!.Value, alone = tokenizer.TryGetId(AnswerMarks.Call)!.Value, calls = 0, several = 0, textOnly = 0;
        for (int seed = 0; seed < 60; seed++)
        {
            ConstrainedText text = Constrained.Generate(grammar, tokenizer, new Random(seed), patience: 60);
            if (!text.IsComplete) continue;
            if (!text.Tokens.Contains(begin) && !text.Tokens.Contains(alone))
            {
                Assert.Equal(ToolUse.Auto, use);
                Assert.Equal(tokenizer.EosId, text.Tokens[^1]);
                textOnly++;
                continue;
            }

            if (use == ToolUse.Required) Assert.Equal(begin, text.Tokens[0]);
            string written = tokenizer.Decode(text.Tokens.SkipWhile(t => t != begin && t != alone).ToArray());
            Match match = Regex.Match(
                written, "\\A(?:<｜tool▁calls▁begin｜>)?(?:(?:(?<=end｜>)\n)?<｜tool▁call▁begin｜>function<｜tool▁sep｜>(?<name>\\w+)\n```json\n(?<arguments>.*?)\n```<｜tool▁call▁end｜>)+<｜tool▁calls▁end｜>\\z", RegexOptions.Singleline);
            Assert.True(match.Success, written);
            for (int i = 0; i < match.Groups["name"].Captures.Count; i++, calls++)
            {
                using JsonDocument arguments = JsonDocument.Parse(match.Groups["arguments"].Captures[i].Value);
                string name = match.Groups["name"].Captures[i].Value;
                Assert.Contains(Functions, f => f.Name == name);
                Assert.Equal(JsonValueKind.Object, arguments.RootElement.ValueKind);
                if (name == "weather") Assert.Null(validator.Problem(arguments.RootElement));
                if (name == "now") Assert.Empty(arguments.RootElement.EnumerateObject());
            }

            several += match.Groups["name"].Captures.Count > 1 ? 1 : 0;
        }

        output.WriteLine($"{calls} calls, {several} texts with several, {textOnly} without");
        Assert.True(parallel || several == 0);
        Assert.True(several > 0 || !parallel || use == ToolUse.Auto);
        Assert.True(use == ToolUse.Auto ? textOnly > 0 : calls > 0);
    }

    [Fact]
    public void What_the_template_writes_is_allowed()
    {
        Tokenizer tokenizer = Constrained.Small;
        const string Text = "Let me see. <｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>weather\n```json\n{\"city\": \"Köln\", \"unit\": \"C\"}\n```<｜tool▁call▁end｜>\n<｜tool▁call▁begin｜>function<｜tool▁sep｜>now\n```json\n{}\n```<｜tool▁call▁end｜><｜tool▁calls▁end｜>";
        ITokenConstraint constraint = JsonConstraints.ToolCalls(tokenizer, Functions).Begin();
        foreach (int id in tokenizer.Encode(Text))
        {
            Assert.False(constraint.IsComplete);
            Assert.Contains(id, Constrained.Allowed(constraint, tokenizer));
            constraint.Accept(id);
        }

        Assert.True(constraint.IsComplete);
    }

    [Fact]
    public void Control_tokens_are_allowed_only_where_the_format_has_them()
    {
        Tokenizer tokenizer = Constrained.Small;
        int[] control = [.. tokenizer.AddedTokens.Select(t => t.Id)];
        ITokenConstraint json = JsonConstraints.AnyJson(tokenizer).Begin();
        foreach (int id in tokenizer.Encode("{\"a\": \"b")) json.Accept(id);
        Assert.Empty(Constrained.Allowed(json, tokenizer).Intersect(control));

        ITokenConstraint free = JsonConstraints.ToolCalls(tokenizer, Functions).Begin();
        int?[] expected = [tokenizer.EosId, tokenizer.TryGetId("<｜tool▁calls▁begin｜>"), tokenizer.TryGetId("<｜tool▁call▁begin｜>"), tokenizer.TryGetId("<think>")];
        Assert.Equal(expected.Order(), Constrained.Allowed(free, tokenizer).Intersect(control).Select(i => (int?)i).Order());
        free.Accept(tokenizer.Encode("a")[0]);
        Assert.DoesNotContain(tokenizer.TryGetId("<think>")!.Value, Constrained.Allowed(free, tokenizer)); // reasoning comes first or not at all
    }

    [Fact]
    public void Reasoning_comes_before_the_document()
    {
        Tokenizer tokenizer = Constrained.Small;
        ITokenConstraint constraint = JsonConstraints.AnyJson(tokenizer, afterReasoning: true).Begin();
        foreach (int id in tokenizer.Encode("First } I think</think>\n\n{\"a\": 1}"))
        {
            List<int> allowed = Constrained.Allowed(constraint, tokenizer);
            Assert.Contains(id, allowed);
            Assert.DoesNotContain(tokenizer.EosId!.Value, allowed);
            constraint.Accept(id);
        }

        Assert.True(constraint.IsComplete);
    }

    [Fact]
    public void Errors_name_the_function()
    {
        JsonElement open = JsonDocument.Parse("""{"type":"object"}""").RootElement;
        Check("function 'f': JSON schema at #: strict mode", new ToolFunction("f", open, true));
        Check("two functions of the name 'now'", Functions[1], Functions[1]);
        Check("not 'a b'", new ToolFunction("a b"));
        Check("function 'g': the JSON schema admits no document", new ToolFunction("g", JsonDocument.Parse("""{"$ref":"#"}""").RootElement, true), Functions[1]);
        Check("there are 0 functions");

        static void Check(string message, params ToolFunction[] functions) => Assert.Contains(
            message, Assert.ThrowsAny<FathomException>(() => JsonConstraints.ToolCalls(Constrained.Small, functions)).Message, StringComparison.Ordinal);
    }
}
