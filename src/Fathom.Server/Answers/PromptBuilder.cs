// From a conversation to the tokens before its answer: the model's own template, then what the request asks the answer to begin with.
using System.Text.Json.Nodes;
using Fathom.Inference;
using Fathom.Server.Http;
using Fathom.Text;

namespace Fathom.Server.Answers;

/// <summary>Renders conversations for one model. Safe for many threads.</summary>
internal sealed class PromptBuilder
{
    private readonly LoadedModel model;
    private readonly UntrustedText untrusted;

    /// <summary>A builder for a model with a tokenizer.</summary>
    public PromptBuilder(LoadedModel model)
    {
        this.model = model;
        Tokenizer = model.RequireTokenizer();
        untrusted = new UntrustedText(Tokenizer);
        string[] special = [.. Tokenizer.AddedTokens.Where(t => t.Special).Select(t => t.Content)];
        // Marks that the tokenizer holds for special would be left out of the text, and with them reasoning and calls.
        KeepSpecial = Marks.All.Any(special.Contains);
        Dropped = KeepSpecial ? [.. special.Except(Marks.All)] : [];
    }

    /// <summary>The tokenizer.</summary>
    public Tokenizer Tokenizer { get; }

    /// <summary>Whether generated text must hold special tokens so that marks are seen.</summary>
    public bool KeepSpecial { get; }

    /// <summary>Special tokens to be left out of text that holds them.</summary>
    public IReadOnlyList<string> Dropped { get; }

    /// <summary>Renders a conversation up to where its answer begins.</summary>
    /// <exception cref="ApiException">The model has no template, or it refuses the messages.</exception>
    public Prompt Build(Dialog dialog)
    {
        ChatTemplate template = RequireTemplate(dialog.MessagesField);
        bool shortForm = ToolPrompt.IsShortForm(template);
        string text = Render(template, dialog, shortForm);
        AnswerStart start = AnswerStart.Content;
        if (dialog.Thinking == true && !EndsWith(text, Marks.Think) && !EndsWith(text, Marks.EndThink)) text += Marks.Think + "\n";
        bool reasons = EndsWith(text, Marks.Think);
        if (dialog.ReasoningPrefix is { } reasoning)
        {
            if (!reasons) text += Marks.Think + "\n";
            text += untrusted.Protect(reasoning);
            reasons = true;
        }

        string? call = null;
        if (dialog.Prefix is { Length: > 0 } prefix)
        {
            if (reasons) text += $"\n{Marks.EndThink}\n\n";
            text += untrusted.Protect(prefix);
        }
        else if (dialog.ToolMode is ToolMode.Required or ToolMode.Named)
        {
            if (reasons) text += $"\n{Marks.EndThink}\n\n";
            call = dialog.ToolMode == ToolMode.Named ? dialog.ToolName : dialog.Tools is [var only] ? only.Name : null;
            text += Marks.Calls + ToolPrompt.Opening(call, shortForm);
            start = call is not null ? AnswerStart.CallArguments : AnswerStart.CallName;
        }
        else if (reasons)
        {
            start = AnswerStart.Reasoning;
        }

        return new Prompt(untrusted.Encode(text), start, call, text);
    }

    /// <summary>Tokens of a conversation as /tokenize shows them.</summary>
    public List<int> Tokens(Dialog dialog, bool addGenerationPrompt)
    {
        ChatTemplate template = RequireTemplate(dialog.MessagesField);
        return untrusted.Encode(Render(template, dialog, ToolPrompt.IsShortForm(template), addGenerationPrompt));
    }

    /// <summary>Tokens of a text to be continued. It is the client's own in full, so control tokens in it count.</summary>
    public List<int> Continue(string text)
    {
        int[] ids = Tokenizer.Encode(text);
        return Tokenizer is { AddsBos: true, BosId: { } bos } && (ids.Length == 0 || ids[0] != bos) ? [bos, .. ids] : [.. ids];
    }

    /// <summary>Tokens for filling in between two texts, in which nothing is a control token.</summary>
    /// <exception cref="ApiException">The tokenizer has no tokens for it.</exception>
    public List<int> FillIn(string prefix, string suffix)
    {
        if (Tokenizer is not { FimBegin: { } begin, FimHole: { } hole, FimEnd: { } end })
            throw ApiException.Value("'suffix' needs a tokenizer with the tokens of fill-in-the-middle, which this model's has not", "suffix");
        List<int> ids = Tokenizer is { AddsBos: true, BosId: { } bos } ? [bos] : [];
        return [.. ids, begin, .. untrusted.EncodePlain(prefix), hole, .. untrusted.EncodePlain(suffix), end];
    }

    private ChatTemplate RequireTemplate(string field) => model.ChatTemplate
        ?? throw ApiException.Format("this model has no chat template; use /v1/completions to continue text", field);

    private string Render(ChatTemplate template, Dialog dialog, bool shortForm, bool addGenerationPrompt = true)
    {
        List<ChatMessage> messages = [.. dialog.Messages.Select(Protect)];
        bool tools = dialog.Tools.Count > 0 && dialog.ToolMode != ToolMode.None, knowsTools = ToolPrompt.KnowsTools(template);
        if (tools && !knowsTools)
        {
            string description = ToolPrompt.Describe(dialog.Tools, dialog.ToolMode, shortForm, text => untrusted.Protect(text));
            if (messages is [{ Role: "system" } system, ..]) messages[0] = system with { Content = $"{system.Content}\n\n{description}" };
            else messages.Insert(0, new ChatMessage("system", description));
        }

        JsonObject variables = (JsonObject?)dialog.Variables?.DeepClone() ?? [];
        if (dialog.Thinking is { } thinking)
        {
            variables["thinking"] ??= thinking;
            variables["enable_thinking"] ??= thinking;
        }

        try
        {
            return template.Render(messages, new ChatTemplateOptions
            {
                AddGenerationPrompt = addGenerationPrompt,
                Tools = tools && knowsTools ? Definitions(dialog.Tools) : null,
                ToolArguments = ToolArgumentForm.Text,
                Variables = variables,
            });
        }
        catch (ChatTemplateException error)
        {
            throw ApiException.Format(error.Message.Replace($" '{template.Name}'", "", StringComparison.Ordinal), dialog.MessagesField);
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
