// The official .NET client of Anthropic against the server, with its own check of every reply's shape switched on.
using System.Net;
using System.Text;
using System.Text.Json;
using Anthropic;
using Anthropic.Exceptions;
using Anthropic.Models.Messages;
using Xunit;

namespace Fathom.Server.Tests;

public sealed class AnthropicClientTests(SharedServer shared, ITestOutputHelper output) : IClassFixture<SharedServer>
{
    private static readonly Tool Paint = new()
    {
        Name = "paint",
        Description = "Paints a wall",
        Strict = true,
        InputSchema = InputSchema.FromRawUnchecked(
            JsonSerializer.Deserialize<Dictionary<string, JsonElement>>("""{"type":"object","properties":{"colour":{"enum":["red","green"]}},"required":["colour"],"additionalProperties":false}""")!),
    };

    [Fact]
    public async Task It_asks_and_is_answered()
    {
        using AnthropicClient client = Client();
        Message message = await client.Messages.Create(Ask(12) with { System = "be brief", StopSequences = ["zzz"] });
        output.WriteLine(message.ToString());
        Assert.StartsWith("msg_", message.ID, StringComparison.Ordinal);
        Assert.Equal("tiny", message.Model.Raw());
        Assert.True(message.StopReason!.Value() is StopReason.EndTurn or StopReason.MaxTokens);
        Assert.All(message.Content, block => Assert.True(block.TryPickText(out _) || block.TryPickThinking(out _)));
        Assert.InRange(message.Usage.OutputTokens, 1, 12);
        MessageTokensCount count = await client.Messages.CountTokens(new MessageCountTokensParams { Model = "tiny", System = "be brief", Messages = Ask(1).Messages });
        Assert.Equal(count.InputTokens, message.Usage.InputTokens + message.Usage.CacheReadInputTokens);
    }

    [Fact]
    public async Task It_streams()
    {
        using AnthropicClient client = Client();
        var text = new StringBuilder();
        StopReason? reason = null;
        long tokens = 0;
        int starts = 0, stops = 0, opened = 0, closed = 0;
        await foreach (RawMessageStreamEvent next in client.Messages.CreateStreaming(MostLikely(Ask(20))))
        {
            if (next.TryPickStart(out RawMessageStartEvent? start))
            {
                starts++;
                Assert.Equal("tiny", start.Message.Model.Raw());
            }
            else if (next.TryPickContentBlockStart(out _)) opened++;
            else if (next.TryPickContentBlockStop(out _)) closed++;
            else if (next.TryPickContentBlockDelta(out RawContentBlockDeltaEvent? delta) && delta.Delta.TryPickText(out TextDelta? part)) text.Append(part.Text);
            else if (next.TryPickDelta(out RawMessageDeltaEvent? end)) (reason, tokens) = (end.Delta.StopReason!.Value(), end.Usage.OutputTokens);
            else if (next.TryPickStop(out _)) stops++;
        }

        output.WriteLine($"{tokens} tokens, {reason}: {text}");
        Assert.Equal((1, 1), (starts, stops));
        Assert.Equal(opened, closed);
        Assert.True(opened > 0);
        Assert.InRange(tokens, 1, 20);
        Assert.True(reason is StopReason.EndTurn or StopReason.MaxTokens);
    }

    [Fact]
    public async Task It_is_given_calls_and_sends_their_results()
    {
        using AnthropicClient client = Client();
        Message message = await client.Messages.Create(Ask(80) with { Tools = [Paint], ToolChoice = new ToolChoiceAny { DisableParallelToolUse = true } });
        Assert.Equal(StopReason.ToolUse, message.StopReason!.Value());
        Assert.True(Assert.Single(message.Content).TryPickToolUse(out ToolUseBlock? call));
        output.WriteLine($"{call!.Name}({JsonSerializer.Serialize(call.Input)})");
        Assert.Equal("paint", call.Name);
        Assert.True(call.Input["colour"].GetString() is "red" or "green");

        Message after = await client.Messages.Create(Ask(4) with
        {
            Tools = [Paint],
            Messages =
            [
                new UserMessageParam("the question"),
                new AssistantMessageParam(new List<ContentBlockParam> { new ToolUseBlockParam { ID = call.ID, Name = call.Name, Input = call.Input } }),
                new UserMessageParam(new List<ContentBlockParam> { new ToolResultBlockParam(call.ID) { Content = "done" } }),
            ],
        });
        Assert.InRange(after.Usage.OutputTokens, 1, 4);
    }

    [Fact]
    public async Task It_is_told_what_is_wrong()
    {
        using AnthropicClient client = Client();
        AnthropicNotFoundException unknown = await Assert.ThrowsAsync<AnthropicNotFoundException>(() => client.Messages.Create(Ask(1) with { Model = "gpt" }));
        output.WriteLine(unknown.ResponseBody);
        Assert.Equal(HttpStatusCode.NotFound, unknown.StatusCode);
        AnthropicBadRequestException wrong = await Assert.ThrowsAsync<AnthropicBadRequestException>(() => client.Messages.Create(Ask(0)));
        Assert.Contains("max_tokens", wrong.ResponseBody, StringComparison.Ordinal);
    }

    private AnthropicClient Client() => new() { BaseUrl = shared.Server.Server.Address.ToString().TrimEnd('/'), ApiKey = "none", ResponseValidation = true, MaxRetries = 0 };

    /// <summary>With the most likely tokens, so that the answer has text: noise may end with its first token. The client has no property for it.</summary>
    private static MessageCreateParams MostLikely(MessageCreateParams ask) => MessageCreateParams.FromRawUnchecked(
        ask.RawHeaderData, ask.RawQueryData, new Dictionary<string, JsonElement>(ask.RawBodyData) { ["temperature"] = JsonSerializer.SerializeToElement(0) });

    private static MessageCreateParams Ask(long tokens) => new() { Model = "tiny", MaxTokens = tokens, Messages = [new UserMessageParam("the question")] };
}
