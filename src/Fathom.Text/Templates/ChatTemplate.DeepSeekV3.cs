// The template of the models that are trained here, in DeepSeek-V3's format (reference: the published tokenizer_config
// of DeepSeek-V3). It differs from the published one in two ways: a second round of tool calls or tool outputs opens
// with its marks like the first, where the published template's flags stay set, and arguments may be JSON objects.
namespace Fathom.Text;

public sealed partial class ChatTemplate
{
    private const string DeepSeekV3Source = """
        {%- set state = namespace(system='', after_tool=false) -%}
        {%- for message in messages if message.role == 'system' -%}
            {%- set state.system = state.system + ('' if loop.first else '\n\n') + message.content -%}
        {%- endfor -%}
        {{- bos_token + state.system -}}

        {%- macro tool_call(call) -%}
            {%- set arguments = call.function.arguments -%}
            {{- '<｜tool▁call▁begin｜>' + call.get('type', 'function') + '<｜tool▁sep｜>' + call.function.name -}}
            {{- '\n```json\n' + (arguments if arguments is string else arguments | tojson) + '\n```<｜tool▁call▁end｜>' -}}
        {%- endmacro -%}

        {%- for message in messages -%}
            {%- set closes_tools = state.after_tool and message.role != 'tool' -%}
            {%- if closes_tools -%}{{- '<｜tool▁outputs▁end｜>' -}}{%- endif -%}
            {%- if message.role == 'user' -%}
                {{- '<｜User｜>' + message.content -}}
            {%- elif message.role == 'assistant' -%}
                {#- An answer to tool outputs follows them directly, with no mark of its own. -#}
                {%- if not closes_tools -%}{{- '<｜Assistant｜>' -}}{%- endif -%}
                {%- set content = message.content or '' -%}
                {{- content.split('</think>')[-1] -}}
                {%- if message.tool_calls -%}
                    {{- '<｜tool▁calls▁begin｜>' -}}
                    {%- for call in message.tool_calls -%}
                        {{- ('' if loop.first else '\n') + tool_call(call) -}}
                    {%- endfor -%}
                    {{- '<｜tool▁calls▁end｜>' -}}
                {%- endif -%}
                {{- eos_token -}}
            {%- elif message.role == 'tool' -%}
                {%- if not state.after_tool -%}{{- '<｜tool▁outputs▁begin｜>' -}}{%- endif -%}
                {{- '<｜tool▁output▁begin｜>' + message.content + '<｜tool▁output▁end｜>' -}}
            {%- elif message.role != 'system' -%}
                {{- raise_exception("unknown role '" + message.role + "'; the roles are system, user, assistant and tool") -}}
            {%- endif -%}
            {%- if message.role != 'system' -%}{%- set state.after_tool = message.role == 'tool' -%}{%- endif -%}
        {%- endfor -%}
        {%- if state.after_tool -%}
            {{- '<｜tool▁outputs▁end｜>' -}}
        {%- elif add_generation_prompt -%}
            {{- '<｜Assistant｜>' -}}
        {%- endif -%}
        """;

    /// <summary>
    /// DeepSeek-V3's chat format: the begin token and all system messages, then <c>&lt;｜User｜&gt;…</c> and
    /// <c>&lt;｜Assistant｜&gt;…&lt;｜end▁of▁sentence｜&gt;</c>, with tool calls and outputs; reasoning up to
    /// <c>&lt;/think&gt;</c> is left out of earlier answers.
    /// </summary>
    public static ChatTemplate DeepSeekV3 { get; } = Parse(
        DeepSeekV3Source,
        "deepseek-v3",
        new Dictionary<string, string> { ["bos_token"] = "<｜begin▁of▁sentence｜>", ["eos_token"] = "<｜end▁of▁sentence｜>" },
        forTools: null);
}
