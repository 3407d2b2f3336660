// Every row of jinja-cases.json through our engine. The expected texts and the rows that fail were computed with
// Jinja 3.1.6, set up as transformers sets it up (immutable sandbox, trim_blocks, lstrip_blocks, loop controls, json.dumps
// as tojson); the clock of strftime_now stood at 2025-03-09 07:05:04.
using System.Text.Json.Nodes;
using Fathom.Testing;
using Xunit;

namespace Fathom.Text.Tests.Templates;

public sealed class JinjaTableTests
{
    private static readonly JsonObject s_table = JsonNode.Parse(File.ReadAllText(
        Path.Combine(Golden.RepositoryRoot, "tests", "Fathom.Text.Tests", "Templates", "jinja-cases.json")))!.AsObject();

    public static TheoryData<string> Groups() =>
        [.. s_table["cases"]!.AsArray().Select(row => row!["group"]!.GetValue<string>()).Distinct()];

    [Theory]
    [MemberData(nameof(Groups))]
    public void Rows_render_as_in_Jinja(string group)
    {
        List<string> failures = [];
        int texts = 0, errors = 0;
        foreach (JsonNode? row in s_table["cases"]!.AsArray().Where(row => row!["group"]!.GetValue<string>() == group))
        {
            string template = row!["template"]!.GetValue<string>();
            string source = template.StartsWith('@') ? NamedTemplate(template[1..]) : template;
            ChatTemplateOptions options = new() { Variables = Variables(row["variables"]), Now = new DateTime(2025, 3, 9, 7, 5, 4) };
            string? expected = row["expected"]?.GetValue<string>();
            string? actual;
            try
            {
                actual = ChatTemplate.Parse(source).Render([], options);
            }
            catch (ChatTemplateException error)
            {
                actual = null;
                if (expected is not null) failures.Add($"{template.ReplaceLineEndings("⏎")}\n    expected {expected}\n    got      {error.Message}");
            }

            if (expected is null) errors++;
            else texts++;
            if (actual is not null && actual != expected) failures.Add($"{template.ReplaceLineEndings("⏎")}\n    expected {expected ?? "an error"}\n    got      {actual}");
        }

        TestContext.Current.TestOutputHelper!.WriteLine($"{group}: {texts} texts and {errors} errors, {failures.Count} differ");
        Assert.True(texts + errors > 0);
        Assert.True(failures.Count == 0, string.Join("\n", failures));
    }

    private static string NamedTemplate(string name) => name == "deepseek"
        ? JsonNode.Parse(File.ReadAllText(Golden.Shared("tokenizer", "tokenizer_config.json")))!["chat_template"]!.GetValue<string>()
        : s_table["templates"]![name]!.GetValue<string>();

    private static JsonObject Variables(JsonNode? ofRow)
    {
        JsonObject variables = s_table["variables"]!.DeepClone().AsObject();
        foreach ((string name, JsonNode? value) in ofRow?.AsObject() ?? []) variables[name] = value?.DeepClone();
        return variables;
    }
}
