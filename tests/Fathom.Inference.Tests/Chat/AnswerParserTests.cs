// Every split of a text into pieces must give the same parts: marks come in halves as tokens do.
using System.Text;
using Xunit;

namespace Fathom.Inference.Tests;

public sealed class AnswerParserTests(ITestOutputHelper output)
{
    private const string V3Call = "<｜tool▁call▁begin｜>function<｜tool▁sep｜>get_weather\n```json\n{\"city\": \"Oslo\"}\n```<｜tool▁call▁end｜>";

    public static TheoryData<string, string, bool, string> Texts => new()
    {
        { "an answer", "C:an answer", true, "Content" },
        { "<think>\nwhy not?\n</think>\n\nyes", "R:why not?|C:yes", false, "Content" },
        { "so it is\n</think>\nyes  ", "R:so it is|C:yes  ", false, "Reasoning" },
        { "</think>yes", "C:yes", false, "Reasoning" },
        { "never ends \n", "R:never ends \n", false, "Reasoning" },
        { "a <b> c < d <thin", "C:a <b> c < d <thin", true, "Content" },
        { "a <think> b", "C:a <think> b", true, "Content" },
        { $"Let me see.<｜tool▁calls▁begin｜>{V3Call}\n{V3Call.Replace("Oslo", "Rome", StringComparison.Ordinal)}<｜tool▁calls▁end｜>", "C:Let me see.|F:get_weather|A0:{\"city\": \"Oslo\"}|F:get_weather|A1:{\"city\": \"Rome\"}", true, "Content" },
        { V3Call, "C:" + V3Call, false, "Content" }, // no tools were given
        { "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>now<｜tool▁sep｜>{\"zone\":\"CET\"}<｜tool▁call▁end｜><｜tool▁calls▁end｜>", "F:now|A0:{\"zone\":\"CET\"}", true, "Content" },
        { "now\n```json\n{}\n```<｜tool▁call▁end｜>", "F:now|A0:{}", true, "CallName" },
        { "{\"a\":\"\n```x\"}\n```<｜tool▁call▁end｜><｜tool▁calls▁end｜>", "F:named|A0:{\"a\":\"\n```x\"}", true, "CallArguments" },
        { "{\"cut\": ", "F:named|A0:{\"cut\": ", true, "CallArguments" },
        { "", "F:named", true, "CallArguments" },
        { "now", "F:now", true, "CallName" },
    };

    [Theory]
    [MemberData(nameof(Texts))]
    public void Parts_do_not_depend_on_how_the_text_arrives(string text, string expected, bool tools, string start)
    {
        var random = new Random(4);
        for (int trial = 0; trial < 200; trial++)
        {
            var parser = new AnswerParser(Enum.Parse<AnswerStart>(start), start == "CallArguments" ? "named" : null, tools);
            var parts = new List<(string Kind, StringBuilder Text)>();
            void Give(AnswerPart part, string piece, int call)
            {
                string kind = part switch { AnswerPart.Content => "C", AnswerPart.Reasoning => "R", AnswerPart.CallStart => "F", _ => $"A{call}" };
                if (part == AnswerPart.CallStart || parts.Count == 0 || parts[^1].Kind != kind) parts.Add((kind, new StringBuilder()));
                parts[^1].Text.Append(piece);
            }

            for (int at = 0; at < text.Length;)
            {
                int length = trial == 0 ? text.Length : trial == 1 ? 1 : Math.Min(text.Length - at, random.Next(1, 9));
                parser.Push(text.Substring(at, length), Give);
                at += length;
            }

            parser.End(Give);
            string got = string.Join('|', parts.Select(p => $"{p.Kind}:{p.Text}"));
            if (trial == 0) output.WriteLine(got);
            Assert.Equal(expected, got);
        }
    }

    [Fact]
    public void Other_control_tokens_are_left_out()
    {
        var parser = new AnswerParser(AnswerStart.Content, tools: true, dropped: ["<｜User｜>", "<｜▁pad▁｜>"]);
        var text = new StringBuilder();
        foreach (char c in "a<｜User｜>b<｜▁pad▁｜><｜Us") parser.Push(c.ToString(), (_, piece, _) => text.Append(piece));
        parser.End((_, piece, _) => text.Append(piece));
        Assert.Equal("ab<｜Us", text.ToString());
    }
}
