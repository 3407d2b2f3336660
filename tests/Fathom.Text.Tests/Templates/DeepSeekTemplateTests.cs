// The published DeepSeek-V3 template, and the built-in one, against texts written out by hand from the description of
// the format. Where the two differ on purpose the test says so.
using System.Text.Json.Nodes;
using Fathom.Testing;
using Xunit;

namespace Fathom.Text.Tests.Templates;

public sealed class DeepSeekTemplateTests
{
    private const string Bos = "<｜begin▁of▁sentence｜>", Eos = "<｜end▁of▁sentence｜>", User = "<｜User｜>", Assistant = "<｜Assistant｜>";
    private const string CallsBegin = "<｜tool▁calls▁begin｜>", CallsEnd = "<｜tool▁calls▁end｜>", CallEnd = "<｜tool▁call▁end｜>";
    private const string CallBegin = "<｜tool▁call▁begin｜>function<｜tool▁sep｜>";
    private const string OutputsBegin = "<｜tool▁outputs▁begin｜>", OutputsEnd = "<｜tool▁outputs▁end｜>";
    private const string OutputBegin = "<｜tool▁output▁begin｜>", OutputEnd = "<｜tool▁output▁end｜>";

    private static readonly ChatMessage s_question = new("user", "Weather in Oslo and Rome?");

    public static TheoryData<string> Templates() => ["published", "built-in"];

    [Theory]
    [MemberData(nameof(Templates))]
    public void System_and_user(string which) => Check(which, true,
        $"{Bos}Be brief.{User}Hi{Assistant}",
        new("system", "Be brief."), new("user", "Hi"));

    [Theory]
    [MemberData(nameof(Templates))]
    public void Several_turns_without_a_generation_prompt(string which) => Check(which, false,
        $"{Bos}{User}a{Assistant}b{Eos}{User} c \n{Assistant}d{Eos}",
        new("user", "a"), new("assistant", "b"), new("user", " c \n"), new("assistant", "d"));

    [Theory]
    [MemberData(nameof(Templates))]
    public void Several_system_messages_come_first_whatever_their_place(string which) => Check(which, true,
        $"{Bos}one\n\ntwo{User}q{Assistant}",
        new("system", "one"), new("user", "q"), new("system", "two"));

    [Theory]
    [MemberData(nameof(Templates))]
    public void Reasoning_of_earlier_answers_is_dropped(string which) => Check(which, true,
        $"{Bos}{User}1+1?{Assistant}\n\n2{Eos}{User}sure?{Assistant}",
        new("user", "1+1?"), new("assistant", "<think>\nadd\n</think>\n\n2"), new("user", "sure?"));

    [Theory]
    [MemberData(nameof(Templates))]
    public void One_tool_call_its_output_and_the_answer(string which) => Check(which, true,
        $"{Bos}{User}Weather in Oslo and Rome?{Assistant}{CallsBegin}{CallBegin}weather\n```json\n{{\"city\": \"Oslo\"}}\n```{CallEnd}{CallsEnd}{Eos}" +
        $"{OutputsBegin}{OutputBegin}3 °C{OutputEnd}{OutputsEnd}Three degrees.{Eos}{User}Thanks{Assistant}",
        s_question, Calls(null, "Oslo"), new("tool", "3 °C"), new("assistant", "Three degrees."), new("user", "Thanks"));

    [Theory]
    [MemberData(nameof(Templates))]
    public void Two_tool_calls_with_text_before_and_two_outputs_at_the_end(string which) => Check(which, true,
        $"{Bos}{User}Weather in Oslo and Rome?{Assistant}Let me look.{CallsBegin}{CallBegin}weather\n```json\n{{\"city\": \"Oslo\"}}\n```{CallEnd}" +
        $"\n{CallBegin}weather\n```json\n{{\"city\": \"Rome\"}}\n```{CallEnd}{CallsEnd}{Eos}" +
        $"{OutputsBegin}{OutputBegin}3 °C{OutputEnd}{OutputBegin}20 °C{OutputEnd}{OutputsEnd}",
        s_question, Calls("Let me look.", "Oslo", "Rome"), new("tool", "3 °C"), new("tool", "20 °C"));

    [Fact]
    public void A_second_round_of_calls_opens_like_the_first_in_the_built_in_template_only()
    {
        ChatMessage[] messages = [s_question, Calls(null, "Oslo"), new("tool", "3"), Calls(null, "Rome"), new("tool", "20")];
        string first = $"{Bos}{User}Weather in Oslo and Rome?{Assistant}{CallsBegin}{CallBegin}weather\n```json\n{{\"city\": \"Oslo\"}}\n```{CallEnd}{CallsEnd}{Eos}{OutputsBegin}{OutputBegin}3{OutputEnd}";
        string call = $"{CallBegin}weather\n```json\n{{\"city\": \"Rome\"}}\n```{CallEnd}{CallsEnd}{Eos}";

        Assert.Equal($"{first}{OutputsEnd}{CallsBegin}{call}{OutputsBegin}{OutputBegin}20{OutputEnd}{OutputsEnd}", ChatTemplate.DeepSeekV3.Render(messages));
        // The published template never clears is_first and is_output_first.
        Assert.Equal($"{first}\n{call}{OutputBegin}20{OutputEnd}{OutputsEnd}", Published().Render(messages));
    }

    [Fact]
    public void Arguments_may_be_objects_in_the_built_in_template_and_are_made_text_on_request()
    {
        ChatMessage call = Calls(null, "Oslo") with
        {
            ToolCalls = [new JsonObject { ["type"] = "function", ["function"] = new JsonObject { ["name"] = "weather", ["arguments"] = new JsonObject { ["city"] = "Oslo" } } }],
        };
        string expected = ChatTemplate.DeepSeekV3.Render([s_question, Calls(null, "Oslo")]);

        Assert.Equal(expected, ChatTemplate.DeepSeekV3.Render([s_question, call]));
        Assert.Equal(expected, Published().Render([s_question, call], new() { ToolArguments = ToolArgumentForm.Text }));
        ChatTemplateException error = Assert.Throws<ChatTemplateException>(() => Published().Render([s_question, call]));
        Assert.Contains("'+' does not work on a string and a mapping", error.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void An_unknown_role_is_refused_by_the_built_in_template()
    {
        ChatTemplateException error = Assert.Throws<ChatTemplateException>(() => ChatTemplate.DeepSeekV3.Render([new("critic", "no")]));
        Assert.True(error.RaisedByTemplate);
        Assert.Contains("unknown role 'critic'", error.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void The_begin_token_can_be_left_out() => Assert.Equal($"{User}Hi", ChatTemplate.DeepSeekV3.Render([new("user", "Hi")], new() { BosToken = "" }));

    private static void Check(string which, bool generation, string expected, params ChatMessage[] messages)
    {
        ChatTemplate template = which == "published" ? Published() : ChatTemplate.DeepSeekV3;
        Assert.Empty(template.NotCovered);
        Assert.Equal(expected, template.Render(messages, new() { AddGenerationPrompt = generation }));
    }

    private static ChatTemplate Published() => ChatTemplate.Load(Path.GetDirectoryName(Golden.Shared("tokenizer", "tokenizer_config.json"))!)!;

    private static ChatMessage Calls(string? content, params string[] cities) => new("assistant", content)
    {
        ToolCalls = [.. cities.Select(city => new JsonObject
        {
            ["type"] = "function",
            ["id"] = "call_" + city,
            ["function"] = new JsonObject { ["name"] = "weather", ["arguments"] = $"{{\"city\": \"{city}\"}}" },
        })],
    };
}
