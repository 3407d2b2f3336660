// An application with a route of its own and Fathom's OpenAI-compatible API below /ai, over one engine, so that both share its memory and
// its batches: dotnet run -c Release --project samples/WebApp -- MODEL
using Fathom.Compute.Cpu;
using Fathom.Extensions.AI;
using Fathom.Inference;
using Fathom.Numerics;
using Fathom.Server;
using Microsoft.Extensions.AI;

if (args is not [string model, ..])
{
    Console.Error.WriteLine("usage: WebApp MODEL (a run or model folder, as 'fathom quickstart' makes one)");
    return 2;
}

using var device = new CpuDevice();
using var engine = new InferenceEngine(LoadedModel.Open(device, model));
WebApplicationBuilder builder = WebApplication.CreateBuilder(args[1..]);
builder.Services.AddFathom(engine);
builder.Services.AddSingleton<IChatClient>(new FathomChatClient(engine));
await using WebApplication app = builder.Build();

// The application's own: POST a text, get one sentence. A client that goes away cancels its answer.
app.MapPost("/summary", async (HttpRequest request, IChatClient client, CancellationToken cancelled) =>
{
    using var reader = new StreamReader(request.Body);
    string text = await reader.ReadToEndAsync(cancelled);
    var options = new ChatOptions { Instructions = "Say in one sentence what the text is about.", MaxOutputTokens = 80, Temperature = 0 };
    try
    {
        return Results.Text((await client.GetResponseAsync(text, options, cancelled)).Text);
    }
    catch (FathomException error)
    {
        return Results.Problem(error.Message, statusCode: StatusCodes.Status400BadRequest); // as a text longer than the model's context
    }
});

// Fathom's: /ai/v1/chat/completions and the others, with keys, limits, errors and metrics of their own.
app.MapGroup("/ai").MapFathom();
await app.RunAsync();
return 0;
