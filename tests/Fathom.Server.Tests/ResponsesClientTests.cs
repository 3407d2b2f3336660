// The official .NET client of OpenAI's responses against the server.
#pragma warning disable OPENAI001 // the client may still change; what changes is seen here
using System.ClientModel;
using System.Text;
using System.Text.Json.Nodes;
using OpenAI.Responses;
using Xunit;

namespace Fathom.Server.Tests;

public sealed class ResponsesClientTests(SharedServer shared, ITestOutputHelper output) : IClassFixture<SharedServer>
{
    private const string Schema = """{"type":"object","properties":{"city":{"enum":["Oslo","Lima"]}},"required":["city"],"additionalProperties":false}""";

    private ResponsesClient Client => new(new ApiKeyCredential("none"), new ResponsesClientOptions { Endpoint = new Uri(shared.Server.Server.Address, "v1") });

    [Fact]
    public async Task It_asks_and_is_answered()
    {
        ResponseResult response = await Client.CreateResponseAsync(Ask(o => (o.Instructions, o.MaxOutputTokenCount, o.Temperature) = ("be brief", 12, 0)));
        output.WriteLine($"{response.Id} {response.Status}: {response.GetOutputText()}");
        Assert.StartsWith("resp_", response.Id, StringComparison.Ordinal);
        Assert.Equal("tiny", response.Model);
        Assert.True(response.Status is ResponseStatus.Completed or ResponseStatus.Incomplete);
        Assert.IsType<MessageResponseItem>(response.OutputItems[^1], exactMatch: false);
        Assert.InRange(response.Usage.OutputTokenCount, 1, 12);
        Assert.Equal(response.Usage.TotalTokenCount, response.Usage.InputTokenCount + response.Usage.OutputTokenCount);
        Assert.Equal(0, response.Usage.OutputTokenDetails.ReasoningTokenCount);
    }

    [Fact]
    public async Task It_streams_the_same_text()
    {
        ResponseResult whole = await Client.CreateResponseAsync(Ask(o => (o.MaxOutputTokenCount, o.Temperature) = (20, 0)));
        var text = new StringBuilder();
        ResponseResult? last = null;
        int expected = 0;
        await foreach (StreamingResponseUpdate update in await Client.CreateResponseStreamingAsync(Ask(o => (o.MaxOutputTokenCount, o.Temperature, o.StreamingEnabled) = (20, 0, true))))
        {
            Assert.Equal(expected++, update.SequenceNumber);
            if (update is StreamingResponseOutputTextDeltaUpdate delta) text.Append(delta.Delta);
            last = (update as StreamingResponseCompletedUpdate)?.Response ?? (update as StreamingResponseIncompleteUpdate)?.Response ?? last;
        }

        output.WriteLine($"{expected} updates: {text}");
        Assert.Equal(whole.GetOutputText(), text.ToString());
        Assert.Equal(whole.GetOutputText(), last!.GetOutputText());
        Assert.Equal(whole.Usage.OutputTokenCount, last.Usage.OutputTokenCount);
        Assert.Equal(whole.Status, last.Status);
    }

    [Fact]
    public async Task It_is_given_calls_and_sends_their_results()
    {
        CreateResponseOptions ask = Ask(o =>
        {
            o.MaxOutputTokenCount = 80;
            o.ParallelToolCallsEnabled = false;
            o.ToolChoice = ResponseToolChoice.CreateRequiredChoice();
            o.Tools.Add(ResponseTool.CreateFunctionTool("get_weather", BinaryData.FromString(Schema), true, "The weather of a city"));
        });
        ResponseResult response = await Client.CreateResponseAsync(ask);
        FunctionCallResponseItem call = Assert.IsType<FunctionCallResponseItem>(Assert.Single(response.OutputItems), exactMatch: false);
        output.WriteLine($"{call.FunctionName}({call.FunctionArguments})");
        Assert.Equal("get_weather", call.FunctionName);
        Assert.True((string?)JsonNode.Parse(call.FunctionArguments.ToString())!["city"] is "Oslo" or "Lima");

        ask.ToolChoice = ResponseToolChoice.CreateNoneChoice();
        ask.MaxOutputTokenCount = 4;
        ask.InputItems.Add(call);
        ask.InputItems.Add(ResponseItem.CreateFunctionCallOutputItem(call.CallId, "rain"));
        response = await Client.CreateResponseAsync(ask);
        Assert.InRange(response.Usage.OutputTokenCount, 1, 4);
    }

    [Fact]
    public async Task It_is_given_the_format_that_it_asks_for()
    {
        ResponseResult response = await Client.CreateResponseAsync(Ask(o =>
            (o.MaxOutputTokenCount, o.TextOptions) = (80, new ResponseTextOptions { TextFormat = ResponseTextFormat.CreateJsonSchemaFormat("city", BinaryData.FromString(Schema), null, true) })));
        output.WriteLine(response.GetOutputText());
        Assert.True((string?)JsonNode.Parse(response.GetOutputText())!["city"] is "Oslo" or "Lima");
    }

    [Fact]
    public async Task It_is_told_what_is_wrong()
    {
        ClientResultException unknown = await Assert.ThrowsAsync<ClientResultException>(() => Client.CreateResponseAsync(Ask(o => o.Model = "gpt")));
        Assert.Equal(404, unknown.Status);
        ClientResultException stored = await Assert.ThrowsAsync<ClientResultException>(() => Client.CreateResponseAsync(Ask(o => o.PreviousResponseId = "resp_1")));
        Assert.Equal(422, stored.Status);
        Assert.Contains("responses are not stored", stored.Message, StringComparison.Ordinal);
    }

    private static CreateResponseOptions Ask(Action<CreateResponseOptions> change)
    {
        var options = new CreateResponseOptions("tiny", [ResponseItem.CreateUserMessageItem("the question")]);
        change(options);
        return options;
    }
}
