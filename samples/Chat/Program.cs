// A chat with a model folder, in this process: dotnet run -c Release --project samples/Chat -- MODEL
// An empty line ends it; Ctrl-C stops the answer that is being written.
using Fathom.Extensions.AI;
using Fathom.Numerics;
using Microsoft.Extensions.AI;

if (args is not [string model])
{
    Console.Error.WriteLine("usage: Chat MODEL (a run or model folder, as 'fathom quickstart' makes one)");
    return 2;
}

try
{
    using FathomChatClient client = FathomChatClient.Open(model);
    await ChatAsync(client);
    return 0;
}
catch (FathomException error)
{
    Console.Error.WriteLine(error.Message);
    return 2;
}

static async Task ChatAsync(IChatClient client)
{
    var options = new ChatOptions { Temperature = 0.7f, MaxOutputTokens = 400 };
    List<ChatMessage> conversation = [];
    CancellationTokenSource? answering = null;
    Console.CancelKeyPress += (_, key) =>
    {
        key.Cancel = answering is not null;
        answering?.Cancel();
    };
    while (true)
    {
        Console.Write("> ");
        if (Console.ReadLine() is not { Length: > 0 } question) return;
        conversation.Add(new ChatMessage(ChatRole.User, question));
        List<ChatResponseUpdate> answer = [];
        using (answering = new CancellationTokenSource())
        {
            try
            {
                await foreach (ChatResponseUpdate update in client.GetStreamingResponseAsync(conversation, options, answering.Token))
                {
                    Console.Write(update.Text);
                    answer.Add(update);
                }
            }
            catch (OperationCanceledException)
            {
                Console.Write(" …"); // what was said so far stays in the conversation
            }
        }

        answering = null;
        conversation.AddMessages(answer);
        Console.WriteLine();
        if (answer.ToChatResponse().Usage is { } usage)
            Console.Error.WriteLine($"[{usage.InputTokenCount} tokens read, {usage.CachedInputTokenCount} of them remembered, {usage.OutputTokenCount} written]");
    }
}
