// From a conversation to the tokens before its answer: the model's own template, then what the request asks the answer to begin with.
using System.Text.Json.Nodes;
using Fathom.Numerics;
using Fathom.Text;

namespace Fathom.Inference;

/// <summary>Renders conversations for one model. Safe for many threads.</summary>
public sealed class ChatPromptBuilder
{
    private readonly LoadedModel model;
    private readonly UntrustedText untrusted;

    /// <summary>A builder for a model.</summary>
    /// <param name="model">With a tokenizer.</param>
    /// <exception cref="FathomException">It has none.</exception>
    public ChatPromptBuilder(LoadedModel model)
    {
        this.model = model;
        Tokenizer = model.RequireTokenizer();
        untrusted = new UntrustedText(Tokenizer);
        string[] special = [.. Tokenizer.AddedTokens.Where(t => t.Special).Select(t => t.Content)];
        // Marks that the tokenizer holds for special would be left out of the text, and with them reasoning and calls.
        KeepSpecial = AnswerMarks.All.Any(special.Contains);
        Dropped = KeepSpecial ? [.. special.Except(AnswerMarks.All)] : [];
    }

    /// <summary>The tokenizer.</summary>
    public Tokenizer Tokenizer { get; }

    /// <summary>Whether generated text must hold special tokens so that marks are seen.</summary>
    public bool KeepSpecial { get; }

    /// <summary>Special tokens to be left out of text that holds them.</summary>
    public IReadOnlyList<string> Dropped { get; }

    private ChatTemplate Template => model.ChatTemplate ?? throw new FathomException("this model has no chat template; it can only continue text");

    /// <summary>Renders a conversation up to where its answer begins.</summary>
    /// <exception cref="FathomException">The model has no template, or it refuses the messages.</exception>
    public ChatPrompt Build(ChatConversation conversation)
    {
        ChatTemplate template = Template;
        bool shortForm = ToolPrompt.IsShortForm(template);
        string text = Render(template, conversation, shortForm);
        AnswerStart start = AnswerStart.Content;
        if (conversation.Thinking == true && !EndsWith(text, AnswerMarks.Think) && !EndsWith(text, AnswerMarks.EndThink)) text += AnswerMarks.Think + "\n";
        bool reasons = EndsWith(text, AnswerMarks.Think);
        if (conversation.ReasoningPrefix is { } reasoning)
        {
            if (!reasons) text += AnswerMarks.Think + "\n";
            text += untrusted.Protect(reasoning);
            reasons = true;
        }

        string? call = null;
        if (conversation.Prefix is { Length: > 0 } prefix)
        {
            if (reasons) text += $"\n{AnswerMarks.EndThink}\n\n";
            text += untrusted.Protect(prefix);
        }
        else if (conversation.ToolMode is ToolMode.Required or ToolMode.Named)
        {
            if (reasons) text += $"\n{AnswerMarks.EndThink}\n\n";
            call = conversation.ToolMode == ToolMode.Named ? conversation.ToolName : conversation.Tools is [var only] ? only.Name : null;
            text += AnswerMarks.Calls + ToolPrompt.Opening(call, shortForm);
            start = call is not null ? AnswerStart.CallArguments : AnswerStart.CallName;
        }
        else if (reasons)
        {
            start = AnswerStart.Reasoning;
        }

        return new ChatPrompt(untrusted.Encode(text), start, call, text);
    }

    /// <summary>Tokens of a conversation as /tokenize shows them.</summary>
    public List<int> Tokens(ChatConversation conversation, bool addGenerationPrompt)
    {
        ChatTemplate template = Template;
        return untrusted.Encode(Render(template, conversation, ToolPrompt.IsShortForm(template), addGenerationPrompt));
    }

    /// <summary>Tokens of a text to be continued. It is the client's own in full, so control tokens in it count.</summary>
    public List<int> Continue(string text)
    {
        int[] ids = Tokenizer.Encode(text);
        return Tokenizer is { AddsBos: true, BosId: { } bos } && (ids.Length == 0 || ids[0] != bos) ? [bos, .. ids] : [.. ids];
    }

    /// <summary>Tokens for filling in between two texts, in which nothing is a control token.</summary>
    /// <exception cref="FathomException">The tokenizer has no tokens for it.</exception>
    public List<int> FillIn(string prefix, string suffix)
    {
        if (Tokenizer is not { FimBegin: { } begin, FimHole: { } hole, FimEnd: { } end })
            throw new FathomException("filling in needs a tokenizer with the tokens of fill-in-the-middle, which this model's has not");
        List<int> ids = Tokenizer is { AddsBos: true, BosId: { } bos } ? [bos] : [];
        return [.. ids, begin, .. untrusted.EncodePlain(prefix), hole, .. untrusted.EncodePlain(suffix), end];
    }

    private string Render(ChatTemplate template, ChatConversation conversation, bool shortForm, bool addGenerationPrompt = true)
    {
        List<ChatMessage> messages = [.. conversation.Messages.Select(Protect)];
        bool tools = conversation.CallsTools, knowsTools = ToolPrompt.KnowsTools(template);
        if (tools && !knowsTools)
        {
            string description = ToolPrompt.Describe(conversation.Tools, conversation.ToolMode, shortForm, text => untrusted.Protect(text));
            if (messages is [{ Role: "system" } system, ..]) messages[0] = system with { Content = $"{system.Content}\n\n{description}" };
            else messages.Insert(0, new ChatMessage("system", description));
        }

        JsonObject variables = (JsonObject?)conversation.Variables?.DeepClone() ?? [];
        if (conversation.Thinking is { } thinking)
        {
            variables["thinking"] ??= thinking;
            variables["enable_thinking"] ??= thinking;
        }

        try
        {
            return template.Render(messages, new ChatTemplateOptions
            {
                AddGenerationPrompt = addGenerationPrompt,
                Tools = tools && knowsTools ? Definitions(conversation.Tools) : null,
                ToolArguments = ToolArgumentForm.Text,
                Variables = variables,
            });
        }
        catch (ChatTemplateException error)
        {
            throw new FathomException(error.Message.Replace($" '{template.Name}'", "", StringComparison.Ordinal), error);
        }
    }

    private ChatMessage Protect(ChatMessage message)
    {
        bool answer = message.Role == "assistant";
        return message with
        {
            Content = message.Content is null ? null : untrusted.Protect(message.Content, keepThinking: answer),
            ReasoningContent = message.ReasoningContent is null ? null : untrusted.Protect(message.ReasoningContent),
            Name = message.Name is null ? null : untrusted.Protect(message.Name),
            ToolCallId = message.ToolCallId is null ? null : untrusted.Protect(message.ToolCallId),
            ToolCalls = (JsonArray?)ProtectNode(message.ToolCalls?.DeepClone()),
        };
    }

    private JsonArray Definitions(IReadOnlyList<ToolDefinition> tools) =>
    [
        .. tools.Select(tool => ProtectNode(new JsonObject
        {
            ["type"] = "function",
            ["function"] = new JsonObject { ["name"] = tool.Name, ["description"] = tool.Description, ["parameters"] = tool.Parameters?.DeepClone() },
        })),
    ];

    private JsonNode? ProtectNode(JsonNode? node) => node switch
    {
        JsonObject fields => new JsonObject(fields.Select(f => KeyValuePair.Create(untrusted.Protect(f.Key), ProtectNode(f.Value)))),
        JsonArray items => new JsonArray([.. items.Select(ProtectNode)]),
        JsonValue value when value.TryGetValue(out string? text) => JsonValue.Create(untrusted.Protect(text)),
        _ => node?.DeepClone(),
    };

    private static bool EndsWith(string text, string mark) => text.AsSpan().TrimEnd().EndsWith(mark, StringComparison.Ordinal);
}
