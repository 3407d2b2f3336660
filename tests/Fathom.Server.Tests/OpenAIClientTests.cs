// The official .NET client of OpenAI against the server: what it sends is understood, and what it gets it can read.
using System.ClientModel;
using System.Text;
using System.Text.Json;
using OpenAI;
using OpenAI.Chat;
using OpenAI.Models;
using Xunit;

namespace Fathom.Server.Tests;

public sealed class OpenAIClientTests(SharedServer shared, ITestOutputHelper output) : IClassFixture<SharedServer>
{
    private static readonly ChatTool Weather = ChatTool.CreateFunctionTool(
        "get_weather", "The weather of a city", BinaryData.FromString("""{"type":"object","properties":{"city":{"type":"string"}},"required":["city"]}"""));

    private OpenAIClient Root => new(new ApiKeyCredential("none"), new OpenAIClientOptions { Endpoint = new Uri(shared.Server.Server.Address, "v1") });

    private ChatClient Chat => Root.GetChatClient("tiny");

    [Fact]
    public async Task It_chats()
    {
        ChatCompletion whole = await Chat.CompleteChatAsync([ChatMessage.CreateSystemMessage("be brief"), ChatMessage.CreateUserMessage("the question")], new ChatCompletionOptions { MaxOutputTokenCount = 12, Temperature = 0 });
        output.WriteLine($"{whole.Id} {whole.FinishReason}: {whole.Content[0].Text}");
        Assert.Equal(ChatMessageRole.Assistant, whole.Role);
        Assert.Equal("tiny", whole.Model);
        Assert.Equal(whole.Usage.TotalTokenCount, whole.Usage.InputTokenCount + whole.Usage.OutputTokenCount);
        Assert.InRange(whole.Usage.OutputTokenCount, 1, 12);
        Assert.Equal(0, whole.Usage.InputTokenDetails.CachedTokenCount);
        Assert.Equal(0, whole.Usage.OutputTokenDetails.ReasoningTokenCount);
    }

    [Fact]
    public async Task It_streams_the_same_text_and_the_usage()
    {
        ChatMessage[] messages = [ChatMessage.CreateUserMessage("the question")];
        var options = new ChatCompletionOptions { MaxOutputTokenCount = 20, Temperature = 0 };
        ChatCompletion whole = await Chat.CompleteChatAsync(messages, options);
        var text = new StringBuilder();
        ChatTokenUsage? usage = null;
        ChatFinishReason? reason = null;
        await foreach (StreamingChatCompletionUpdate update in Chat.CompleteChatStreamingAsync(messages, new ChatCompletionOptions { MaxOutputTokenCount = 20, Temperature = 0 }))
        {
            foreach (ChatMessageContentPart part in update.ContentUpdate) text.Append(part.Text);
            usage = update.Usage ?? usage;
            reason = update.FinishReason ?? reason;
        }

        Assert.Equal(whole.Content[0].Text, text.ToString());
        Assert.Equal(whole.Usage.OutputTokenCount, usage!.OutputTokenCount);
        Assert.Equal(whole.FinishReason, reason);
    }

    [Fact]
    public async Task It_is_given_the_call_that_it_asks_for()
    {
        var options = new ChatCompletionOptions { MaxOutputTokenCount = 16, ToolChoice = ChatToolChoice.CreateFunctionChoice("get_weather"), Tools = { Weather } };
        ChatMessage[] messages = [ChatMessage.CreateUserMessage("Oslo?")];
        ChatCompletion whole = await Chat.CompleteChatAsync(messages, options);
        ChatToolCall call = Assert.Single(whole.ToolCalls);
        Assert.Equal("get_weather", call.FunctionName);
        Assert.StartsWith("call_", call.Id, StringComparison.Ordinal);
        Assert.True(whole.FinishReason is ChatFinishReason.Length or ChatFinishReason.ToolCalls);

        string? name = null;
        int fragments = 0;
        await foreach (StreamingChatCompletionUpdate update in Chat.CompleteChatStreamingAsync(messages, options))
        {
            foreach (StreamingChatToolCallUpdate part in update.ToolCallUpdates)
            {
                Assert.Equal(0, part.Index);
                name ??= part.FunctionName;
                fragments++;
            }
        }

        Assert.Equal("get_weather", name);
        Assert.True(fragments > 1);
    }

    [Fact]
    public async Task It_sends_the_result_of_a_call()
    {
        ChatMessage[] messages =
        [
            ChatMessage.CreateUserMessage("Oslo?"),
            ChatMessage.CreateAssistantMessage([ChatToolCall.CreateFunctionToolCall("call_1", "get_weather", BinaryData.FromString("""{"city":"Oslo"}"""))]),
            ChatMessage.CreateToolMessage("call_1", "rain"),
        ];
        ChatCompletion answer = await Chat.CompleteChatAsync(messages, new ChatCompletionOptions { MaxOutputTokenCount = 4, Tools = { Weather } });
        Assert.InRange(answer.Usage.OutputTokenCount, 1, 4);
    }

    [Fact]
    public async Task It_reads_log_probabilities()
    {
        ChatCompletion answer = await Chat.CompleteChatAsync(
            [ChatMessage.CreateUserMessage("the")], new ChatCompletionOptions { MaxOutputTokenCount = 6, Temperature = 0, IncludeLogProbabilities = true, TopLogProbabilityCount = 2 });
        Assert.NotEmpty(answer.ContentTokenLogProbabilities);
        Assert.All(answer.ContentTokenLogProbabilities, t => Assert.Equal(2, t.TopLogProbabilities.Count));
    }

    [Fact]
    public async Task It_lists_the_models()
    {
        OpenAIModelCollection models = await Root.GetOpenAIModelClient().GetModelsAsync();
        Assert.Equal("tiny", Assert.Single(models).Id);
        OpenAIModel one = await Root.GetOpenAIModelClient().GetModelAsync("tiny");
        Assert.Equal("fathom", one.OwnedBy);
    }

    [Fact]
    public async Task It_is_told_what_is_wrong()
    {
        ClientResultException unknown = await Assert.ThrowsAsync<ClientResultException>(() => Root.GetChatClient("gpt").CompleteChatAsync([ChatMessage.CreateUserMessage("a")]));
        Assert.Equal(404, unknown.Status);
        Assert.Contains("the model 'gpt' does not exist here", unknown.Message, StringComparison.Ordinal);
        ClientResultException wrong = await Assert.ThrowsAsync<ClientResultException>(
            () => Chat.CompleteChatAsync([ChatMessage.CreateUserMessage("a")], new ChatCompletionOptions { Temperature = 9 }));
        Assert.Equal(422, wrong.Status);
        using JsonDocument body = JsonDocument.Parse(wrong.GetRawResponse()!.Content);
        Assert.Equal("temperature", body.RootElement.GetProperty("error").GetProperty("param").GetString());
    }

    [Fact]
    public async Task It_can_cancel()
    {
        using var cancel = new CancellationTokenSource();
        await Assert.ThrowsAnyAsync<OperationCanceledException>(async () =>
        {
            await foreach (StreamingChatCompletionUpdate _ in Chat.CompleteChatStreamingAsync([ChatMessage.CreateUserMessage("go on")], new ChatCompletionOptions { MaxOutputTokenCount = 900 }, cancel.Token))
                await cancel.CancelAsync();
        });
        await TestServer.Eventually(() => shared.Server.Engine.Statistics is { Running: 0, Waiting: 0 }, "the generation ends");
    }
}
