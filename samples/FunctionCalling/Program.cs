// The model calls a C# function and reads its result: dotnet run -c Release --project samples/FunctionCalling -- MODEL "What is the weather in Oslo?"
// The loop is what UseFunctionInvocation of Microsoft.Extensions.AI does; it is written out to show each step. The function is strict: its
// arguments follow its schema whatever the model, so that even one that was trained for seconds makes a call that works.
using System.ComponentModel;
using System.Text.Json;
using Fathom.Extensions.AI;
using Microsoft.Extensions.AI;

if (args is not [string model, string question])
{
    Console.Error.WriteLine("usage: FunctionCalling MODEL QUESTION (a run or model folder; one that was trained to call functions, as DeepSeek-V3, calls them where they help)");
    return 2;
}

AIFunction weather = AIFunctionFactory.Create(
    [Description("The weather in a city, today.")] (City city) => $"{city}: {(city == City.Oslo ? "light rain, 8" : "sun, 27")} degrees",
    new AIFunctionFactoryOptions
    {
        Name = "get_weather",
        AdditionalProperties = new Dictionary<string, object?> { ["strict"] = true },
        JsonSchemaCreateOptions = new() { TransformOptions = new() { DisallowAdditionalProperties = true, RequireAllProperties = true } },
    });

using IChatClient client = FathomChatClient.Open(model);
List<ChatMessage> conversation = [new(ChatRole.User, question)];
for (int round = 0; round < 5; round++)
{
    var options = new ChatOptions
    {
        Tools = [weather],
        ToolMode = round == 0 ? ChatToolMode.RequireAny : ChatToolMode.Auto, // one call at least; then as the model likes
        AllowMultipleToolCalls = false,
        MaxOutputTokens = 200,
    };
    ChatResponse response = await client.GetResponseAsync(conversation, options);
    conversation.AddMessages(response);
    Console.Write(response.Text);
    FunctionCallContent[] calls = [.. response.Messages.SelectMany(message => message.Contents).OfType<FunctionCallContent>()];
    if (calls.Length == 0) break;
    List<AIContent> results = [];
    foreach (FunctionCallContent call in calls)
    {
        // Exception is set where the answer was cut within the arguments; the model is told, and may try again.
        object? result = call.Exception is { } error ? error.Message : await weather.InvokeAsync(new AIFunctionArguments(call.Arguments));
        Console.WriteLine($"[{call.Name}({JsonSerializer.Serialize(call.Arguments)}) = {result}]");
        results.Add(new FunctionResultContent(call.CallId, result));
    }

    conversation.Add(new ChatMessage(ChatRole.Tool, results));
}

Console.WriteLine();
return 0;

/// <summary>The cities whose weather is known.</summary>
internal enum City
{
    Lagos,
    Lima,
    Oslo,
}
