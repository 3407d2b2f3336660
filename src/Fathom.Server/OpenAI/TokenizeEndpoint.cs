// /tokenize and /detokenize as vLLM has them, and with llama.cpp's names for the text.
using System.Text.Json;
using Fathom.Inference;
using Fathom.Server.Answers;
using Fathom.Server.Hosting;
using Fathom.Server.Http;

namespace Fathom.Server.OpenAI;

/// <summary>Text to tokens and back.</summary>
internal sealed class TokenizeEndpoint(ModelService service)
{
    private const int MostTokens = 1 << 20;

    /// <summary>The tokens of {prompt}, {content} or {messages}.</summary>
    public async Task TokenizeAsync(RequestScope scope)
    {
        using JsonDocument document = await RequestBody.ReadAsync(scope.Http, service.Options.MaxBodyBytes, service.Options.BodyDeadline).ConfigureAwait(false);
        var body = new JsonField(document.RootElement, "");
        service.ResolveModel(body.Get("model")?.Text());
        ChatPromptBuilder prompts = service.RequirePrompts();
        List<int> ids;
        if (body.Get("messages") is { } messages)
        {
            var conversation = new ChatConversation { Messages = MessageReader.Read(messages).Messages };
            bool beginAnswer = body.Get("add_generation_prompt")?.Boolean() ?? true;
            ids = Jobs.Render("messages", () => prompts.Tokens(conversation, beginAnswer));
        }
        else
        {
            string text = (body.Get("prompt") ?? body.Get("content") ?? body.Get("text") ?? body.Require("prompt")).Text();
            bool special = body.Get("add_special_tokens")?.Boolean() ?? true;
            ids = special ? prompts.Continue(text) : [.. prompts.Tokenizer.Encode(text)];
        }

        bool texts = body.Get("return_token_strs")?.Boolean() ?? false;
        await JsonReply.SendAsync(scope.Http, 200, json =>
        {
            json.WriteStartObject();
            json.WriteNumber("count", ids.Count);
            json.WriteNumber("max_model_len", service.Engine.ContextTokens);
            json.WriteStartArray("tokens");
            foreach (int id in ids) json.WriteNumberValue(id);
            json.WriteEndArray();
            if (texts)
            {
                json.WriteStartArray("token_strs");
                foreach (int id in ids) json.WriteStringValue(LogProbs.Text(prompts.Tokenizer, id));
                json.WriteEndArray();
            }

            json.WriteEndObject();
        }).ConfigureAwait(false);
    }

    /// <summary>The text of {tokens}.</summary>
    public async Task DetokenizeAsync(RequestScope scope)
    {
        using JsonDocument document = await RequestBody.ReadAsync(scope.Http, service.Options.MaxBodyBytes, service.Options.BodyDeadline).ConfigureAwait(false);
        var body = new JsonField(document.RootElement, "");
        service.ResolveModel(body.Get("model")?.Text());
        ChatPromptBuilder prompts = service.RequirePrompts();
        int[] ids = [.. body.Require("tokens").Items(MostTokens).Select(t => (int)t.Integer(0, prompts.Tokenizer.VocabularySize - 1))];
        string text = prompts.Tokenizer.Decode(ids);
        await JsonReply.SendAsync(scope.Http, 200, json =>
        {
            json.WriteStartObject();
            json.WriteString("prompt", text);
            json.WriteString("content", text);
            json.WriteEndObject();
        }).ConfigureAwait(false);
    }
}
