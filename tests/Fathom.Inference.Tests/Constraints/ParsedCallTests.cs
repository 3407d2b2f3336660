// What a constraint promises of calls counts only in what a client gets, so here texts go through the parser that splits answers. Random
// choices open calls wherever they may: in the middle of text, after reasoning, spelled letter by letter, and write marks into strings.
using System.Text;
using System.Text.Json;
using Fathom.Text;
using Xunit;

namespace Fathom.Inference.Tests;

public sealed class ParsedCallTests(ITestOutputHelper output)
{
    private static readonly JsonElement Schema = JsonElement.Parse(
        """{"type":"object","properties":{"city":{"type":"string","maxLength":40},"unit":{"enum":["C","F"]}},"required":["city","unit"],"additionalProperties":false}""");

    private static readonly ToolFunction[] Functions = [new("weather", Schema, Strict: true), new("now", Strict: true), new("any")];

    /// <summary>Marks are plain text to it, in few tokens, so that random choices spell them all the time.</summary>
    private static readonly Lazy<Tokenizer> Spelling = new(() => BpeTrainer.Train(
        [string.Concat(Enumerable.Repeat($"a <b {string.Join(" ", AnswerMarks.All)} {{\"city\": \"Oslo\", \"unit\": \"C\"}}\n```", 30))],
        new BpeTrainerOptions { VocabularySize = 400, SpecialTokens = [SpecialTokenNames.BeginOfSentence, SpecialTokenNames.EndOfSentence] }));

    public static TheoryData<bool, bool, AnswerStart, ToolUse, bool, bool> Forms()
    {
        var forms = new TheoryData<bool, bool, AnswerStart, ToolUse, bool, bool>();
        foreach (bool spelled in (bool[])[false, true])
        {
            foreach (bool shortForm in (bool[])[false, true])
            {
                foreach (bool parallel in (bool[])[false, true])
                {
                    foreach (AnswerStart start in (AnswerStart[])[AnswerStart.Content, AnswerStart.Reasoning])
                    {
                        forms.Add(spelled, shortForm, start, ToolUse.Auto, parallel, false);
                        forms.Add(spelled, shortForm, start, ToolUse.Auto, parallel, true);
                        forms.Add(spelled, shortForm, start, ToolUse.Required, parallel, false);
                    }

                    forms.Add(spelled, shortForm, AnswerStart.CallName, ToolUse.Required, parallel, false);
                    forms.Add(spelled, shortForm, AnswerStart.CallArguments, ToolUse.Required, parallel, false);
                }
            }
        }

        return forms;
    }

    [Theory]
    [MemberData(nameof(Forms))]
    public void Every_call_that_is_read_has_arguments_of_its_schema(bool spelled, bool shortForm, AnswerStart start, ToolUse use, bool parallel, bool json)
    {
        Tokenizer tokenizer = spelled ? Spelling.Value : Constrained.Small;
        string? first = start == AnswerStart.CallArguments ? "weather" : null;
        var form = new ToolCallForm(start, first, shortForm, json ? new JsonAnswer(Schema, Strict: true) : null);
        TokenGrammar grammar = JsonConstraints.ToolCalls(tokenizer, Functions, use, parallel, form: form);
        AnswerJson known = AnswerJson.Arguments | (json ? AnswerJson.Content : AnswerJson.None);
        var validator = new SchemaValidator(Schema);
        int complete = 0, calls = 0, several = 0, without = 0, marksInStrings = 0;
        for (int seed = 0; seed < 40; seed++)
        {
            var random = new Random(seed);
            ConstrainedText text = Constrained.Generate(grammar, tokenizer, random, patience: 120, new Speller(tokenizer, random).Prefer);
            if (!text.IsComplete) continue;
            complete++;
            var answer = new Answer();
            var parser = new AnswerParser(start, first, tools: true, json: known);
            for (int at = 0, length; at < text.Text.Length; at += length) // in pieces of any size, as they stream
            {
                length = Math.Min(random.Next(1, 9), text.Text.Length - at);
                parser.Push(text.Text.Substring(at, length), answer.Take);
            }

            parser.End(answer.Take);
            foreach ((string name, string arguments) in answer.Calls)
            {
                Assert.Contains(Functions, f => f.Name == name);
                using JsonDocument document = Parse(arguments, text.Text);
                Assert.Equal(JsonValueKind.Object, document.RootElement.ValueKind);
                if (name == "weather") Assert.Null(validator.Problem(document.RootElement));
                if (name == "now") Assert.Empty(document.RootElement.EnumerateObject());
                if (arguments.Contains(AnswerMarks.EndCall, StringComparison.Ordinal)) marksInStrings++;
            }

            if (json && answer.Calls.Count == 0)
            {
                using JsonDocument document = Parse(answer.Content, text.Text);
                Assert.Null(validator.Problem(document.RootElement));
            }

            Assert.True(use == ToolUse.Auto || answer.Calls.Count > 0, text.Text);
            Assert.True(parallel || answer.Calls.Count <= 1, text.Text);
            calls += answer.Calls.Count;
            several += answer.Calls.Count > 1 ? 1 : 0;
            without += answer.Calls.Count == 0 ? 1 : 0;
        }

        output.WriteLine($"{complete} texts: {calls} calls, {several} texts with several, {without} with none, {marksInStrings} calls with a mark within a string");
        Assert.True(complete >= 5 && (use == ToolUse.Auto || calls > 0));
    }

    [Theory]
    [InlineData("```json\n", "\n```")]
    [InlineData("", "")]
    public void A_mark_within_a_string_of_json_arguments_is_text(string before, string after)
    {
        const string Arguments = """{"city":"a \" <｜tool▁call▁end｜> \\"}""";
        string head = before.Length > 0 ? $"function{AnswerMarks.Separator}weather\n{before}" : $"weather{AnswerMarks.Separator}";
        string text = $"{AnswerMarks.Calls}{AnswerMarks.Call}{head}{Arguments}{after}{AnswerMarks.EndCall}{AnswerMarks.EndCalls}";
        for (int size = 1; size <= text.Length; size++)
        {
            var answer = new Answer();
            var parser = new AnswerParser(AnswerStart.Content, null, tools: true, json: AnswerJson.Arguments);
            for (int at = 0; at < text.Length; at += size) parser.Push(text.Substring(at, Math.Min(size, text.Length - at)), answer.Take);
            parser.End(answer.Take);
            Assert.Equal(("weather", Arguments), Assert.Single(answer.Calls));
        }
    }

    private static JsonDocument Parse(string json, string text)
    {
        try
        {
            return JsonDocument.Parse(json);
        }
        catch (JsonException error)
        {
            Assert.Fail($"'{json}' is not JSON ({error.Message}) in {text}");
            throw;
        }
    }

    /// <summary>Now and then leaves only tokens that begin a mark or go on with one, so that marks come in text and in strings.</summary>
    private sealed class Speller(Tokenizer tokenizer, Random random)
    {
        private static readonly string[] Marks = [.. AnswerMarks.All.Select(m => Encoding.Latin1.GetString(Encoding.UTF8.GetBytes(m)))]; // bytes as characters
        private string begun = "";

        public void Prefer(ITokenConstraint constraint, List<int> allowed)
        {
            if (begun.Length == 0 && random.Next(4) > 0) return;
            int[] further = [.. allowed.Where(id => Text(id) is { Length: > 0 } text && Marks.Any(m => m.StartsWith(begun + text, StringComparison.Ordinal)))];
            if (further.Length == 0)
            {
                begun = "";
                return;
            }

            int chosen = further[random.Next(further.Length)];
            begun += Text(chosen);
            if (Marks.Contains(begun)) begun = "";
            allowed.Clear();
            allowed.Add(chosen);
        }

        private string Text(int id) => Encoding.Latin1.GetString(tokenizer.TokenBytes(id));
    }

    private sealed class Answer
    {
        public List<(string Name, string Arguments)> Calls { get; } = [];

        public string Content { get; private set; } = "";

        public void Take(AnswerPart part, string text, int call)
        {
            if (part == AnswerPart.CallStart) Calls.Add((text, ""));
            else if (part == AnswerPart.CallArguments) Calls[call] = (Calls[call].Name, Calls[call].Arguments + text);
            else if (part == AnswerPart.Content) Content += text;
        }
    }
}
