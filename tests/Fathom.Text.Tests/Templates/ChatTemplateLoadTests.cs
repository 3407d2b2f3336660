using System.Diagnostics;
using System.Text.Json.Nodes;
using Fathom.Testing;
using Xunit;

namespace Fathom.Text.Tests.Templates;

public sealed class ChatTemplateLoadTests
{
    private const string Bos = "<｜begin▁of▁sentence｜>", Eos = "<｜end▁of▁sentence｜>", User = "<｜User｜>", Assistant = "<｜Assistant｜>";

    private static readonly ChatMessage[] s_messages = [new("user", "hi")];

    [Fact]
    public void A_string_template_with_tokens_as_text_and_as_objects()
    {
        using TemporaryFolder folder = new();
        Write(folder, """{"chat_template": "{{ bos_token }}{{ messages[0].content }}{{ eos_token }}{{ unk_token }}", "bos_token": "<s>", "eos_token": {"content": "</s>"}, "unk_token": null, "add_bos_token": true}""");
        ChatTemplate template = ChatTemplate.Load(folder.Path)!;
        Assert.Equal("<s>hi</s>", template.Render(s_messages));
        Assert.Equal("[hi]", template.Render(s_messages, new() { BosToken = "[", EosToken = "]" }));
        Assert.Equal(["bos_token", "eos_token"], template.SpecialTokens.Keys);
    }

    [Fact]
    public void Of_named_templates_the_default_is_taken_and_tool_use_when_there_are_tools()
    {
        using TemporaryFolder folder = new();
        Write(folder, """{"chat_template": [{"name": "tool_use", "template": "T{{ tools|length }}"}, {"name": "default", "template": "D{{ tools }}"}]}""");
        ChatTemplate template = ChatTemplate.Load(folder.Path)!;
        Assert.Equal("DNone", template.Render(s_messages));
        Assert.Equal("D[]", template.Render(s_messages, new() { Tools = [] }));
        Assert.Equal("T1", template.Render(s_messages, new() { Tools = [new JsonObject()] }));
    }

    [Fact]
    public void The_jinja_file_wins_over_the_entry()
    {
        using TemporaryFolder folder = new();
        Write(folder, """{"chat_template": "entry", "bos_token": "<s>"}""");
        File.WriteAllText(folder.File("chat_template.jinja"), "{{ bos_token }}file\n");
        Assert.Equal("<s>file", ChatTemplate.Load(folder.Path)!.Render(s_messages));
    }

    [Fact]
    public void A_folder_without_a_template_gives_null()
    {
        using TemporaryFolder folder = new();
        Assert.Null(ChatTemplate.Load(folder.Path));
        Write(folder, "{}");
        Assert.Null(ChatTemplate.Load(folder.Path));
    }

    [Theory]
    [InlineData("{", "is not valid JSON")]
    [InlineData("[]", "does not hold a JSON object")]
    [InlineData("""{"a": 1, "a": 2}""", "is not valid JSON")]
    [InlineData("""{"chat_template": 5}""", "chat_template must be a string or a list of {name, template}")]
    [InlineData("""{"chat_template": [{"name": "default"}]}""", "every entry of chat_template needs a 'name' and a 'template'")]
    [InlineData("""{"chat_template": [{"name": "rag", "template": ""}]}""", "chat_template has no entry named 'default', only rag")]
    [InlineData("""{"chat_template": "{{ x", "bos_token": ""}""", "line 1, column 1: '{{' is not closed")]
    [InlineData("""{"chat_template": "", "bos_token": {"text": "<s>"}}""", "bos_token has no text in 'content'")]
    public void Bad_files_are_named(string json, string problem)
    {
        using TemporaryFolder folder = new();
        Write(folder, json);
        ChatTemplateException error = Assert.Throws<ChatTemplateException>(() => ChatTemplate.Load(folder.Path));
        Assert.Contains(problem, error.Message, StringComparison.Ordinal);
        Assert.Contains("tokenizer_config.json", error.Message, StringComparison.Ordinal);
        Assert.DoesNotContain('\n', error.Message);
    }

    [Fact]
    public void A_missing_folder_is_an_error() =>
        Assert.Contains("there is no folder", Assert.Throws<ChatTemplateException>(() => ChatTemplate.Load("/nowhere/at/all")).Message, StringComparison.Ordinal);

    [Fact]
    public void Messages_are_read_from_JSON_with_unknown_keys_kept()
    {
        JsonObject json = JsonNode.Parse("""{"role": "assistant", "content": [{"type": "text", "text": "x"}], "prefix": true, "tool_calls": [{"id": "1"}], "reasoning_content": "r", "name": "n", "tool_call_id": "c"}""")!.AsObject();
        ChatTemplate template = ChatTemplate.Parse("{{ messages[0] }}");
        Assert.Equal(
            "{'role': 'assistant', 'content': [{'type': 'text', 'text': 'x'}], 'reasoning_content': 'r', 'tool_calls': [{'id': '1'}], 'name': 'n', 'tool_call_id': 'c', 'prefix': True}",
            template.Render([ChatMessage.FromJson(json)]));
        Assert.Equal("{'role': 'assistant', 'content': None}", template.Render([new("assistant", null)]));
    }

    [Theory]
    [InlineData("""{"content": "x"}""", "chat message: 'role' is missing")]
    [InlineData("""{"role": 5}""", "chat message: 'role' must be a string")]
    [InlineData("""{"role": "user", "content": {}}""", "chat message: 'content' must be a string, null or an array of parts")]
    [InlineData("""{"role": "user", "tool_calls": {}}""", "chat message: 'tool_calls' must be an array")]
    public void Bad_messages_are_named(string json, string problem) =>
        Assert.Equal(problem, Assert.Throws<ChatTemplateException>(() => ChatMessage.FromJson(JsonNode.Parse(json)!.AsObject())).Message);

    [Fact]
    public void Tool_arguments_take_the_form_that_is_asked_for()
    {
        ChatTemplate template = ChatTemplate.Parse("{% for c in messages[0].tool_calls %}{{ c.function.arguments is string }}:{{ c.function.arguments }};{% endfor %}");
        ChatMessage message = new("assistant", null)
        {
            ToolCalls = JsonNode.Parse("""[{"function": {"name": "f", "arguments": "{\"a\": 1.0}"}}, {"function": {"name": "g", "arguments": {"b": "é"}}}]""")!.AsArray(),
        };
        Assert.Equal("True:{\"a\": 1.0};False:{'b': 'é'};", template.Render([message]));
        Assert.Equal("False:{'a': 1.0};False:{'b': 'é'};", template.Render([message], new() { ToolArguments = ToolArgumentForm.Object }));
        Assert.Equal("True:{\"a\": 1.0};True:{\"b\": \"é\"};", template.Render([message], new() { ToolArguments = ToolArgumentForm.Text }));
        Assert.Equal("{\"a\": 1.0}", message.ToolCalls[0]!["function"]!["arguments"]!.GetValue<string>());

        ChatMessage broken = message with { ToolCalls = JsonNode.Parse("""[{"function": {"arguments": "{"}}]""")!.AsArray() };
        Assert.StartsWith("message 0, tool_calls: 'arguments' is not JSON", Assert.Throws<ChatTemplateException>(
            () => template.Render([broken], new() { ToolArguments = ToolArgumentForm.Object })).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void One_template_renders_on_many_threads()
    {
        ChatTemplate template = ChatTemplate.DeepSeekV3;
        JsonArray tools = JsonNode.Parse("""[{"type": "function", "function": {"name": "f"}}]""")!.AsArray();
        string[] texts = new string[400];
        Parallel.For(0, texts.Length, index => texts[index] = template.Render([new("user", $"q{index}")], new() { AddGenerationPrompt = true, Tools = tools }));
        for (int index = 0; index < texts.Length; index++) Assert.Equal($"<｜begin▁of▁sentence｜><｜User｜>q{index}<｜Assistant｜>", texts[index]);
    }

    [Fact]
    public void A_conversation_of_a_hundred_turns_renders_in_few_steps()
    {
        List<ChatMessage> messages = [new("system", "Be brief.")];
        for (int turn = 0; turn < 100; turn++) messages.AddRange([new("user", new string('q', 400)), new("assistant", new string('a', 400))]);
        ChatTemplateOptions options = new() { Limits = new() { MaxSteps = 20_000 } };
        double best = double.MaxValue;
        for (int round = 0; round < 20; round++)
        {
            long start = Stopwatch.GetTimestamp();
            Assert.Equal(Bos.Length + 9 + (100 * (User.Length + Assistant.Length + Eos.Length + 800)), ChatTemplate.DeepSeekV3.Render(messages, options).Length);
            best = Math.Min(best, Stopwatch.GetElapsedTime(start).TotalMicroseconds);
        }

        TestContext.Current.TestOutputHelper!.WriteLine($"{messages.Count} messages: best of 20 {best:F0} us");
    }

    private static void Write(TemporaryFolder folder, string config) => File.WriteAllText(folder.File("tokenizer_config.json"), config);
}
