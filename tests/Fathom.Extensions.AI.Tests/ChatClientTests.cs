// The client over a real engine: what it answers is what the engine generates for the rendered conversation, and every option is seen in the
// answer or refused by name.
using System.ComponentModel;
using System.Diagnostics;
using System.Text.Json;
using Fathom.Compute.Cpu;
using Fathom.Inference;
using Fathom.Numerics;
using Microsoft.Extensions.AI;
using Xunit;

namespace Fathom.Extensions.AI.Tests;

/// <summary>Tests of <see cref="FathomChatClient"/>.</summary>
public sealed class ChatClientTests : IDisposable
{
    private const string Question = "the user reads the question";
    private readonly ITestOutputHelper output;
    private readonly CpuDevice device = new(1);
    private readonly InferenceEngine engine;
    private readonly FathomChatClient client;

    public ChatClientTests(ITestOutputHelper output)
    {
        this.output = output;
        engine = new InferenceEngine(TestModel.Open(device), new EngineOptions { ContextTokens = 1024, CacheTokens = 16 * 1024 });
        client = new FathomChatClient(engine);
    }

    public void Dispose()
    {
        client.Dispose();
        engine.Dispose();
        device.Dispose();
    }

    [Fact]
    public async Task An_answer_is_what_the_engine_generates_for_the_rendered_conversation()
    {
        var prompts = new ChatPromptBuilder(engine.Model);
        ChatPrompt prompt = prompts.Build(new ChatConversation { Messages = [new("system", "write"), new("user", Question)], ToolMode = ToolMode.Auto });
        var sampling = new SamplingOptions { Temperature = 0.7f, TopP = 0.9f, TopK = 20, MinP = 0.01f, FrequencyPenalty = 0.5f, PresencePenalty = -0.5f, RepetitionPenalty = 1.1f, Seed = 11, MaxNewTokens = 24, StopAtEos = false };
        using Generation generation = engine.Submit(new GenerationRequest { Prompt = prompt.Ids, Sampling = sampling, KeepSpecialTokens = prompts.KeepSpecial });
        string raw = await generation.ReadToEndAsync();
        var parsed = new AnswerParser(prompt.Start, dropped: prompts.Dropped);
        string expected = "";
        parsed.Push(raw, (part, text, _) => expected += part == AnswerPart.Content ? text : "");
        parsed.End((part, text, _) => expected += part == AnswerPart.Content ? text : "");

        ChatOptions options = Options();
        ChatResponse response = await client.GetResponseAsync([new(ChatRole.User, Question)], options);
        output.WriteLine($"\"{response.Text}\" {JsonSerializer.Serialize(response.Usage)}");
        Assert.Equal(expected, response.Text);
        Assert.Equal("tiny", response.ModelId);
        Assert.Equal(ChatFinishReason.Length, response.FinishReason);
        Assert.Equal(prompt.Ids.Count, response.Usage!.InputTokenCount);
        Assert.Equal(24, response.Usage.OutputTokenCount);
        Assert.Equal(prompt.Ids.Count + 24, response.Usage.TotalTokenCount);

        // Each of them is honoured: with another value the text is another. Seed and length are clear from the above.
        foreach ((string name, Action<ChatOptions> change) in ((string, Action<ChatOptions>)[])
        [
            ("Temperature", o => o.Temperature = 1.7f), ("TopP", o => o.TopP = 0.2f), ("TopK", o => o.TopK = 2), ("FrequencyPenalty", o => o.FrequencyPenalty = -2),
            ("PresencePenalty", o => o.PresencePenalty = 2), ("Seed", o => o.Seed = 12), ("Instructions", o => o.Instructions = "the day and night"),
            ("min_p", o => o.AdditionalProperties!["min_p"] = 0.9), ("repetition_penalty", o => o.AdditionalProperties!["repetition_penalty"] = 3f),
            ("logit_bias", o => o.AdditionalProperties!["logit_bias"] = new Dictionary<int, float> { [70] = 100 }),
            ("MaxOutputTokens", o => o.MaxOutputTokens = 5),
        ])
        {
            ChatOptions other = Options();
            change(other);
            string text = (await client.GetResponseAsync([new(ChatRole.User, Question)], other)).Text;
            Assert.True(text != response.Text, $"{name} changed nothing");
        }

        static ChatOptions Options() => new()
        {
            Instructions = "write",
            Temperature = 0.7f,
            TopP = 0.9f,
            TopK = 20,
            FrequencyPenalty = 0.5f,
            PresencePenalty = -0.5f,
            Seed = 11,
            MaxOutputTokens = 24,
            AdditionalProperties = new() { ["min_p"] = 0.01, ["repetition_penalty"] = 1.1, ["ignore_eos"] = true },
        };
    }

    [Fact]
    public async Task A_stream_is_the_response_in_pieces()
    {
        var options = new ChatOptions { Seed = 5, MaxOutputTokens = 40, ModelId = "tiny" };
        ChatResponse whole = await client.GetResponseAsync([new(ChatRole.User, Question)], options);
        List<ChatResponseUpdate> updates = await client.GetStreamingResponseAsync([new(ChatRole.User, Question)], options).ToListAsync();
        output.WriteLine($"{updates.Count} updates");
        Assert.Equal(whole.Text, string.Concat(updates.Select(u => u.Text)));
        Assert.True(updates.Count > 5, "the answer did not come in pieces");
        Assert.Single(updates.Select(u => u.ResponseId).Distinct());
        Assert.All(updates, u => Assert.Equal(ChatRole.Assistant, u.Role));
        Assert.Equal(whole.FinishReason, updates[^1].FinishReason);
        Assert.All(updates[..^1], u => Assert.Null(u.FinishReason));
    }

    [Fact]
    public async Task Stop_sequences_end_the_answer_before_them()
    {
        var options = new ChatOptions { Seed = 5, MaxOutputTokens = 60 };
        string whole = (await client.GetResponseAsync([new(ChatRole.User, Question)], options)).Text;
        string stop = whole[10..13];
        options.StopSequences = [stop];
        ChatResponse cut = await client.GetResponseAsync([new(ChatRole.User, Question)], options);
        Assert.Equal(whole[..whole.IndexOf(stop, StringComparison.Ordinal)], cut.Text);
        Assert.Equal(ChatFinishReason.Stop, cut.FinishReason);
    }

    [Fact]
    public async Task Reasoning_is_content_of_its_own_and_counted()
    {
        var options = new ChatOptions { Seed = 5, MaxOutputTokens = 30, Reasoning = new() { Effort = ReasoningEffort.High }, AdditionalProperties = new() { ["ignore_eos"] = true } };
        // The end of the reasoning is never chosen, so that all of it is reasoning.
        options.AdditionalProperties["logit_bias"] = new Dictionary<int, float> { [TestModel.Tokenizer.TryGetId(AnswerMarks.EndThink)!.Value] = -100 };
        ChatResponse response = await client.GetResponseAsync([new(ChatRole.User, Question)], options);
        Assert.NotEmpty(string.Concat(response.Messages.SelectMany(m => m.Contents).OfType<TextReasoningContent>().Select(c => c.Text)));
        Assert.Equal("", response.Text);
        Assert.Equal(30, response.Usage!.ReasoningTokenCount);

        options.Reasoning.Output = ReasoningOutput.None;
        response = await client.GetResponseAsync([new(ChatRole.User, Question)], options);
        Assert.Empty(response.Messages.SelectMany(m => m.Contents).OfType<TextReasoningContent>());

        options.Reasoning = new() { Effort = ReasoningEffort.None };
        response = await client.GetResponseAsync([new(ChatRole.User, Question)], options);
        Assert.NotEqual("", response.Text);
        Assert.Equal(0, response.Usage!.ReasoningTokenCount);
    }

    [Fact]
    public async Task Json_formats_are_kept_by_a_model_that_writes_noise()
    {
        for (int seed = 0; seed < 5; seed++)
        {
            ChatResponse response = await client.GetResponseAsync([new(ChatRole.User, Question)], new ChatOptions { Seed = seed, MaxOutputTokens = 900, ResponseFormat = ChatResponseFormat.ForJsonSchema<Weather>() });
            output.WriteLine(response.Text);
            if (response.FinishReason != ChatFinishReason.Length) Assert.True(JsonDocument.Parse(response.Text).RootElement.TryGetProperty("sunny", out JsonElement _));
            response = await client.GetResponseAsync([new(ChatRole.User, Question)], new ChatOptions { Seed = seed, MaxOutputTokens = 40, ResponseFormat = ChatResponseFormat.Json });
            Assert.StartsWith("{", response.Text.TrimStart(), StringComparison.Ordinal);
        }
    }

    [Fact]
    public async Task A_required_function_is_called_and_its_result_is_read()
    {
        // Closed, so that noise cannot go on inventing further arguments.
        AIFunction sunny = AIFunctionFactory.Create([Description("Whether the sun shines.")] (bool tomorrow) => !tomorrow, new AIFunctionFactoryOptions
        {
            Name = "sunny",
            JsonSchemaCreateOptions = new AIJsonSchemaCreateOptions { TransformOptions = new AIJsonSchemaTransformOptions { DisallowAdditionalProperties = true } },
        });
        var options = new ChatOptions { Seed = 3, MaxOutputTokens = 200, Tools = [sunny], ToolMode = ChatToolMode.RequireSpecific("sunny") };
        List<ChatMessage> messages = [new(ChatRole.User, Question)];
        ChatResponse response = await client.GetResponseAsync(messages, options);
        FunctionCallContent call = Assert.Single(response.Messages.SelectMany(m => m.Contents).OfType<FunctionCallContent>());
        output.WriteLine($"{call.Name}({JsonSerializer.Serialize(call.Arguments)})");
        Assert.Equal("sunny", call.Name);
        Assert.Null(call.Exception);
        Assert.Equal(ChatFinishReason.ToolCalls, response.FinishReason);
        object? result = await sunny.InvokeAsync(new AIFunctionArguments(call.Arguments));

        messages.AddMessages(response);
        messages.Add(new(ChatRole.Tool, [new FunctionResultContent(call.CallId, result)]));
        string rendered = new ChatPromptBuilder(engine.Model).Build(new ChatConversation { Messages = MessageTexts(messages), ToolMode = ToolMode.Auto }).Text;
        output.WriteLine(rendered);
        Assert.Contains("sunny", rendered, StringComparison.Ordinal);
        response = await client.GetResponseAsync(messages, new ChatOptions
        {
            Seed = 3,
            MaxOutputTokens = 10,
            Tools = [sunny],
            ToolMode = ChatToolMode.None,
            AdditionalProperties = new() { ["ignore_eos"] = true },
        });
        Assert.Equal(TestModel.Tokenizer.Encode(rendered).Length, response.Usage!.InputTokenCount);
        Assert.Equal(10, response.Usage.OutputTokenCount);

        // The same conversation, written with the template's own messages.
        static Fathom.Text.ChatMessage[] MessageTexts(List<ChatMessage> messages) =>
        [
            new("user", Question),
            new("assistant", null)
            {
                ToolCalls = [new System.Text.Json.Nodes.JsonObject
                {
                    ["type"] = "function",
                    ["id"] = "1",
                    ["function"] = new System.Text.Json.Nodes.JsonObject { ["name"] = "sunny", ["arguments"] = JsonSerializer.Serialize(messages[1].Contents.OfType<FunctionCallContent>().Single().Arguments) },
                }],
            },
            new("tool", JsonSerializer.Serialize(((FunctionResultContent)messages[2].Contents[0]).Result)) { ToolCallId = "1" },
        ];
    }

    [Fact]
    public async Task Strict_functions_are_called_by_their_schemas_though_the_model_chooses()
    {
        AIFunction sunny = AIFunctionFactory.Create((bool tomorrow, Unit unit) => tomorrow, new AIFunctionFactoryOptions
        {
            Name = "sunny",
            AdditionalProperties = new Dictionary<string, object?> { ["strict"] = true },
            JsonSchemaCreateOptions = new AIJsonSchemaCreateOptions { TransformOptions = new AIJsonSchemaTransformOptions { DisallowAdditionalProperties = true, RequireAllProperties = true } },
        });
        AIFunction now = AIFunctionFactory.Create(() => 1, "now");
        var calls = new Dictionary<string, int>();
        for (int seed = 0; seed < 20; seed++)
        {
            var options = new ChatOptions
            {
                Seed = seed,
                MaxOutputTokens = 500,
                Tools = [sunny, now],
                ToolMode = seed % 2 == 0 ? ChatToolMode.RequireAny : ChatToolMode.Auto,
                AllowMultipleToolCalls = seed % 4 < 2,
                ResponseFormat = seed % 5 == 0 ? ChatResponseFormat.ForJsonSchema<Weather>() : null,
                AdditionalProperties = new() { ["logit_bias"] = new Dictionary<int, float> { [TestModel.Tokenizer.TryGetId(AnswerMarks.Calls)!.Value] = 4 } },
            };
            ChatResponse response = await client.GetResponseAsync([new(ChatRole.User, Question)], options);
            if (response.FinishReason == ChatFinishReason.Length) continue;
            FunctionCallContent[] made = [.. response.Messages.SelectMany(m => m.Contents).OfType<FunctionCallContent>()];
            Assert.True(made.Length > 0 || options.ToolMode is AutoChatToolMode);
            Assert.True(made.Length <= 1 || options.AllowMultipleToolCalls == true);
            if (made.Length == 0 && options.ResponseFormat is not null) Assert.True(JsonDocument.Parse(response.Text).RootElement.TryGetProperty("sunny", out JsonElement _));
            foreach (FunctionCallContent call in made)
            {
                Assert.Null(call.Exception);
                calls[call.Name] = calls.GetValueOrDefault(call.Name) + 1;
                if (call.Name == "now") continue;
                Assert.Equal(["tomorrow", "unit"], call.Arguments!.Keys);
                Assert.NotNull(await sunny.InvokeAsync(new AIFunctionArguments(call.Arguments)));
            }
        }

        output.WriteLine(string.Join(", ", calls.Select(c => $"{c.Key} {c.Value} times")));
        Assert.True(calls["sunny"] > 3);
    }

    [Fact]
    public async Task The_cache_is_accounted_for()
    {
        string longQuestion = string.Join(' ', Enumerable.Repeat(Question, 20));
        var options = new ChatOptions { MaxOutputTokens = 2 };
        UsageDetails first = (await client.GetResponseAsync([new(ChatRole.User, longQuestion)], options)).Usage!;
        UsageDetails second = (await client.GetResponseAsync([new(ChatRole.User, longQuestion)], options)).Usage!;
        output.WriteLine($"{first.CachedInputTokenCount} and {second.CachedInputTokenCount} of {second.InputTokenCount} tokens from the cache");
        Assert.Equal(0, first.CachedInputTokenCount);
        Assert.InRange((long)second.CachedInputTokenCount!, second.InputTokenCount!.Value - 64, second.InputTokenCount.Value - 1);
    }

    [Fact]
    public async Task Cancelling_and_leaving_free_everything()
    {
        var options = new ChatOptions { MaxOutputTokens = 900, AdditionalProperties = new() { ["ignore_eos"] = true } };
        using var cancellation = new CancellationTokenSource();
        await Assert.ThrowsAnyAsync<OperationCanceledException>(async () =>
        {
            await foreach (ChatResponseUpdate _ in client.GetStreamingResponseAsync([new(ChatRole.User, Question)], options, cancellation.Token)) cancellation.Cancel();
        });
        await foreach (ChatResponseUpdate _ in client.GetStreamingResponseAsync([new(ChatRole.User, Question)], options)) break;
        var waited = Stopwatch.StartNew();
        while (engine.Statistics is { Running: > 0 } or { Waiting: > 0 } && waited.Elapsed < TimeSpan.FromSeconds(20)) await Task.Delay(5);
        EngineStatistics after = engine.Statistics;
        output.WriteLine($"{after.Running} running after {waited.ElapsedMilliseconds} ms, {after.FreeBlocks} of {after.Blocks} blocks free, {after.GeneratedTokens} tokens generated");
        Assert.Equal(0, after.Running + after.Waiting);
        Assert.Equal(after.Blocks, after.FreeBlocks);
        Assert.True(after.GeneratedTokens < 1800, "both answers ran to their end");
    }

    [Fact]
    public async Task What_cannot_be_honoured_is_refused_by_name()
    {
        AIFunction function = AIFunctionFactory.Create((int x) => x, "f");
        await Refused<NotSupportedException>("ConversationId", new() { ConversationId = "1" });
        await Refused<NotSupportedException>("Summary", new() { Reasoning = new() { Output = ReasoningOutput.Summary } });
        await Refused<NotSupportedException>("HostedWebSearchTool", new() { Tools = [new HostedWebSearchTool()] });
        await Refused<NotSupportedException>("RawRepresentationFactory", new() { RawRepresentationFactory = _ => "text" });
        await Refused<ArgumentException>("ModelId", new() { ModelId = "other" });
        await Refused<ArgumentException>("min_q", new() { AdditionalProperties = new() { ["min_q"] = 1 } });
        await Refused<ArgumentException>("min_p", new() { AdditionalProperties = new() { ["min_p"] = "much" } });
        await Refused<ArgumentException>("ToolMode", new() { ToolMode = ChatToolMode.RequireAny });
        await Refused<ArgumentException>("'g'", new() { Tools = [function], ToolMode = ChatToolMode.RequireSpecific("g") });
        await Refused<FathomException>("temperature", new() { Temperature = -1 });
        NotSupportedException image = await Assert.ThrowsAsync<NotSupportedException>(() => client.GetResponseAsync([new(ChatRole.User, [new UriContent("http://localhost/a.png", "image/png")])]));
        Assert.Contains("UriContent", image.Message, StringComparison.Ordinal);

        async Task Refused<TError>(string name, ChatOptions options)
            where TError : Exception
        {
            TError error = await Assert.ThrowsAsync<TError>(() => client.GetResponseAsync([new(ChatRole.User, Question)], options));
            output.WriteLine(error.Message);
            Assert.Contains(name, error.Message, StringComparison.OrdinalIgnoreCase);
        }
    }

    [Fact]
    public void Services_are_found_by_type()
    {
        Assert.Same(client, client.GetService(typeof(IChatClient)));
        Assert.Same(engine, client.GetService<InferenceEngine>());
        Assert.Same(engine.Model, client.GetService<LoadedModel>());
        Assert.Equal("tiny", client.GetService<ChatClientMetadata>()!.DefaultModelId);
        Assert.Null(client.GetService(typeof(InferenceEngine), "key"));
        Assert.Null(client.GetService<string>());
    }

    private enum Unit
    {
        Celsius,
        Fahrenheit,
    }

    private sealed record Weather(bool Sunny);
}
