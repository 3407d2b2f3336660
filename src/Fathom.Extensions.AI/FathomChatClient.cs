// Microsoft.Extensions.AI's IChatClient over an engine in the same process: no server, no HTTP, the same prompts and the same parsing of
// reasoning and calls as behind one. Options that cannot be honoured are refused by name, never dropped: see ChatOptionsReader.
using System.Runtime.CompilerServices;
using Fathom.Compute;
using Fathom.Compute.Cpu;
using Fathom.Inference;
using Fathom.Numerics;
using Fathom.Text;
using Microsoft.Extensions.AI;
using ChatMessage = Microsoft.Extensions.AI.ChatMessage;

namespace Fathom.Extensions.AI;

/// <summary>
/// Answers chats with a model in this process. Safe for many threads: requests that are under way at the same time are computed side by
/// side. Cancelling a request, or leaving its stream early, frees what it holds before the engine's next step.
/// </summary>
public sealed class FathomChatClient : IChatClient
{
    private readonly InferenceEngine engine;
    private readonly ChatPromptBuilder prompts;
    private readonly ChatOptionsReader reader;
    private readonly ChatGrammars grammars;
    private readonly ChatClientMetadata metadata;
    private readonly Device? ownDevice;

    /// <summary>A client of an engine, which stays the caller's to dispose.</summary>
    /// <param name="engine">Of a model with a tokenizer and a chat template.</param>
    /// <param name="modelName">What the model is called in responses; the name of its folder or run if not given.</param>
    /// <exception cref="FathomException">The model has no tokenizer.</exception>
    public FathomChatClient(InferenceEngine engine, string? modelName = null)
        : this(engine, modelName, null)
    {
    }

    private FathomChatClient(InferenceEngine engine, string? modelName, Device? ownDevice)
    {
        ArgumentNullException.ThrowIfNull(engine);
        this.engine = engine;
        this.ownDevice = ownDevice;
        prompts = new ChatPromptBuilder(engine.Model);
        modelName ??= engine.Model.Name;
        reader = new ChatOptionsReader(modelName);
        grammars = new ChatGrammars(engine.Model);
        metadata = new ChatClientMetadata("fathom", defaultModelId: modelName);
    }

    /// <summary>Opens a model folder on the processor. Disposing the client closes it.</summary>
    /// <param name="path">A run or model folder with a tokenizer.</param>
    /// <param name="options">Of the engine.</param>
    /// <exception cref="FathomException">The folder cannot be opened as a model.</exception>
    public static FathomChatClient Open(string path, EngineOptions? options = null)
    {
        var device = new CpuDevice();
        InferenceEngine? engine = null;
        try
        {
            engine = new InferenceEngine(LoadedModel.Open(device, path), options);
            return new FathomChatClient(engine, null, device);
        }
        catch
        {
            engine?.Dispose();
            device.Dispose();
            throw;
        }
    }

    /// <inheritdoc/>
    /// <exception cref="NotSupportedException">An option or a content cannot be honoured; the message names it.</exception>
    /// <exception cref="ArgumentException">An option has a value that is not possible.</exception>
    /// <exception cref="FathomException">The conversation cannot be rendered or does not fit, or the engine failed.</exception>
    public Task<ChatResponse> GetResponseAsync(IEnumerable<ChatMessage> messages, ChatOptions? options = null, CancellationToken cancellationToken = default) =>
        GetStreamingResponseAsync(messages, options, cancellationToken).ToChatResponseAsync(cancellationToken);

    /// <inheritdoc/>
    /// <exception cref="NotSupportedException">An option or a content cannot be honoured; the message names it.</exception>
    /// <exception cref="ArgumentException">An option has a value that is not possible.</exception>
    /// <exception cref="FathomException">The conversation cannot be rendered or does not fit, or the engine failed.</exception>
    public async IAsyncEnumerable<ChatResponseUpdate> GetStreamingResponseAsync(
        IEnumerable<ChatMessage> messages, ChatOptions? options = null, [EnumeratorCancellation] CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(messages);
        ChatRequest request = reader.Read(messages, options, this);
        ChatPrompt prompt = prompts.Build(request.Conversation);
        AnswerGrammar? grammar = grammars.Of(request.Conversation, prompt, request.Answer);
        var answer = new AnswerReader(prompt, request, prompts.Dropped, grammar?.Json ?? AnswerJson.None, metadata.DefaultModelId);
        using Generation generation = engine.Submit(
            new GenerationRequest
            {
                Prompt = prompt.Ids,
                Sampling = request.Sampling,
                Constraint = grammar?.Grammar.Begin(),
                Priority = request.Priority,
                UserId = request.User,
                KeepSpecialTokens = prompts.KeepSpecial,
            },
            cancellationToken);
        await foreach (GenerationPiece piece in generation.ConfigureAwait(false))
        {
            foreach (ChatResponseUpdate update in answer.Take(piece)) yield return update;
        }

        GenerationResult result = await generation.Completion.ConfigureAwait(false);
        cancellationToken.ThrowIfCancellationRequested();
        if (result.Reason == FinishReason.Cancelled) throw new OperationCanceledException("the engine ended while it answered");
        foreach (ChatResponseUpdate update in answer.End(result)) yield return update;
    }

    /// <inheritdoc/>
    /// <remarks>Gives this client, its <see cref="ChatClientMetadata"/>, and the <see cref="InferenceEngine"/>, <see cref="LoadedModel"/> and <see cref="Tokenizer"/> behind it.</remarks>
    public object? GetService(Type serviceType, object? serviceKey = null)
    {
        ArgumentNullException.ThrowIfNull(serviceType);
        if (serviceKey is not null) return null;
        return ((object[])[this, metadata, engine, engine.Model, prompts.Tokenizer]).FirstOrDefault(serviceType.IsInstanceOfType);
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        if (ownDevice is null) return;
        engine.Dispose();
        ownDevice.Dispose();
    }
}
