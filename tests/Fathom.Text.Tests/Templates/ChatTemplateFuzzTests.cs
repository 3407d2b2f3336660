// Templates come from strangers. Mutations of real templates, with a fixed seed, must render, or fail with
// ChatTemplateException, and nothing else: no other exception, no endless loop, no crash.
using System.Diagnostics;
using System.Text.Json.Nodes;
using Fathom.Testing;
using Xunit;

namespace Fathom.Text.Tests.Templates;

public sealed class ChatTemplateFuzzTests
{
    private static readonly string[] s_fragments =
    [
        "{{", "}}", "{%", "%}", "{%-", "-%}", "{#", "#}", "'", "\"", "\\", "(", ")", "[", "]", "{", "}", "|", ".", ",", ":", "~", "+", "-", "*", "/", "//", "%", "**",
        " if ", " else ", " for ", " in ", " is ", " not ", " and ", "==", "<", "none", "true", "0", "-1", "1.5", "99999999999", "1e308", "''", "[]", "{}", "()", "[::-1]", "[1:]",
        "range(5)", "range(3, -9, -2)", "namespace(a=1)", "dict(a=1)", "loop.index", "loop.nextitem", "loop.cycle(1, 2)", "loop.changed(1)", "messages", "message", "messages[0]", "'%5.2f'", "'%s' % ", "'é😀\ud800'",
        "{% set x = messages %}", "{% for m in messages %}", "{% endfor %}", "{% if true %}", "{% endif %}", "{% macro f(a, b=1) %}", "{% endmacro %}", "{{ f(1) }}", "{% break %}", "{% continue %}",
        "{% raw %}", "{% endraw %}", "{% call f() %}", "{% endcall %}", "{% filter upper %}", "{% endfilter %}", "{% with a = 1 %}", "{% endwith %}", "{% generation %}", "{% endgeneration %}", "\n", "  ", "\r\n", "\0", "\ud83d",
    ];

    private static readonly string[] s_suffixes =
    [
        "|tojson", "|tojson(indent=2)", "|join(',')", "|map('upper')", "|list", "|sort", "|unique", "|int", "|float", "|round(2)", "|length", "|first", "|last", "|dictsort",
        "|selectattr('role')", "|indent(3)", "|replace('a','bb')", "|reverse", "|default('d')", "|items", "|sum", "|min", "|abs", "|title", "|format(1)", ".split()", ".split('a', 2)",
        ".items()", ".get('role')", ".append(1)", ".append(messages)", ".strip()", ".find('a')", ".rsplit(none, 1)", ".zfill(9)", ".splitlines()", ".partition('a')", ".format(1)", ".count('')",
        "|map('length')", "|map(attribute='role')|list", "|select('string')|list", "|rejectattr('role', 'eq', 'user')", "|string", "|tojson|upper", "|center(9)", "|trim('a')", "|max", "|e",
        "[0]", "[-1]", "[1:]", "[::-2]", "['role']", "[none]", ".role", ".content", ".content.split(' ')[0]", "()", "(1)", " ~ 1", " + 1", " + 'a'", " * 3", " // 2", " ** 2", " % 3", " % (1, 2)",
        " is string", " is not defined", " is odd", " in messages", " == messages", " < 1", " and x", " or x", " if x", " if x else y", ", 1", " is in [1]", ".items()|list",
    ];

    [Theory]
    [InlineData(1)]
    [InlineData(2)]
    [InlineData(3)]
    public void Mutated_templates_render_or_fail_cleanly(int seed)
    {
        Random random = new(seed);
        string[] sources = Sources();
        ChatMessage[] messages =
        [
            new("system", "Be brief. 😀"), new("user", " Hi {{ x }} "),
            new("assistant", "<think>a</think>b") { ToolCalls = JsonNode.Parse("""[{"id": "123456789", "type": "function", "function": {"name": "f", "arguments": "{\"a\": [1, 2.5, null]}"}}]""")!.AsArray() },
            new("tool", "out") { ToolCallId = "123456789" }, new("user", "b"),
        ];
        ChatTemplateOptions options = new()
        {
            AddGenerationPrompt = true,
            Tools = JsonNode.Parse("""[{"type": "function", "function": {"name": "f", "description": "d"}}]""")!.AsArray(),
            Limits = new() { MaxSteps = 100_000, MaxTextLength = 1_000_000 },
        };

        int rendered = 0, refused = 0, failed = 0;
        double slowest = 0;
        for (int round = 0; round < 4000; round++)
        {
            string template = Mutate(random, sources);
            long start = Stopwatch.GetTimestamp();
            ChatTemplate? parsed = null;
            try
            {
                parsed = ChatTemplate.Parse(template);
                parsed.Render(messages, options);
                rendered++;
            }
            catch (ChatTemplateException error)
            {
                Assert.DoesNotContain('\n', error.Message);
                if (parsed is null) refused++;
                else failed++;
            }
            catch (Exception error)
            {
                Assert.Fail($"seed {seed}, round {round}: {error.GetType().Name} {error.Message}\n{error.StackTrace}\n{template}");
            }

            slowest = Math.Max(slowest, Stopwatch.GetElapsedTime(start).TotalMilliseconds);
        }

        TestContext.Current.TestOutputHelper!.WriteLine($"seed {seed}: {rendered} rendered, {refused} did not parse, {failed} failed while rendering, slowest {slowest:F0} ms");
        Assert.True(rendered > 100 && refused > 100 && failed > 100, "the mutations must reach the parser and the evaluator");
    }

    private static string[] Sources()
    {
        JsonObject table = JsonNode.Parse(File.ReadAllText(
            Path.Combine(Golden.RepositoryRoot, "tests", "Fathom.Text.Tests", "Templates", "jinja-cases.json")))!.AsObject();
        return
        [
            ChatTemplate.DeepSeekV3.Source,
            .. table["templates"]!.AsObject().Select(entry => entry.Value!.GetValue<string>()),
            .. table["cases"]!.AsArray().Select(row => row!["template"]!.GetValue<string>()).Where(template => template.Length > 40),
        ];
    }

    private static string Mutate(Random random, string[] sources)
    {
        string template = sources[random.Next(sources.Length)];
        for (int change = random.Next(1, 4); change > 0; change--)
        {
            int at = random.Next(template.Length + 1), length = Math.Min(random.Next(1, 12), template.Length - at);
            string fragment = s_fragments[random.Next(s_fragments.Length)];
            template = random.Next(14) switch
            {
                0 => template.Remove(at, length),
                1 => template.Insert(at, template.Substring(at, length)),
                2 => template.Remove(at, length).Insert(at, fragment),
                3 => template.Insert(at, fragment),
                _ => AfterExpression(template, at, s_suffixes[random.Next(s_suffixes.Length)]),
            };
        }

        return template;
    }

    // Just before an end mark, where a filter or a method fits the grammar, so that evaluation is reached.
    private static string AfterExpression(string template, int from, string fragment)
    {
        int end = template.IndexOf("}}", from, StringComparison.Ordinal);
        if (end < 0) return template;
        while (end > 0 && template[end - 1] is (' ' or '-')) end--;
        return template.Insert(end, fragment);
    }
}
