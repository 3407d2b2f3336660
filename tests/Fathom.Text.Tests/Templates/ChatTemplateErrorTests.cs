// What is wrong with a template or its input, and where, must be in the message; limits must hold.
using System.Diagnostics;
using System.Text.Json.Nodes;
using Xunit;

namespace Fathom.Text.Tests.Templates;

public sealed class ChatTemplateErrorTests
{
    [Theory]
    [InlineData("a\n{% if x %}", 2, 4, "'{% if %}' is not closed; add '{% endif %}'")]
    [InlineData("{{ 'abc }}", 1, 4, "the string is not closed; add '")]
    [InlineData("{{ a", 1, 1, "'{{' is not closed; add '}}'")]
    [InlineData("ab\n{# x", 2, 1, "the comment '{#' is not closed; add '#}'")]
    [InlineData("{% raw %} {{", 1, 1, "'{% raw %}' is not closed; add '{% endraw %}'")]
    [InlineData("{% include 'a' %}", 1, 4, "the tag 'include' is not covered")]
    [InlineData("{% for i in l recursive %}{% endfor %}", 1, 15, "a recursive for loop is not covered; use a macro that calls itself")]
    [InlineData("{{ 0x1F }}", 1, 4, "numbers in base 2, 8 or 16 are not covered; write the number in base 10")]
    [InlineData("{{ f(*x) }}", 1, 6, "unpacking arguments with '*' is not covered")]
    [InlineData("{{ (1] }}", 1, 6, "unexpected ']', expected ')'")]
    [InlineData("{{ 1 2 }}", 1, 6, "expected '}}', found '2'")]
    [InlineData("{% break %}", 1, 4, "'break' is not inside a for loop")]
    [InlineData("{% else %}", 1, 4, "'else' belongs inside if or for, and none is open here")]
    [InlineData("{{ a ? b }}", 1, 6, "unexpected character '?'")]
    public void A_malformed_template_names_the_place(string template, int line, int column, string problem)
    {
        ChatTemplateException error = Assert.Throws<ChatTemplateException>(() => ChatTemplate.Parse(template, "test"));
        Assert.Equal($"chat template 'test', line {line}, column {column}: {problem}", error.Message);
        Assert.Equal((line, column), (error.Line, error.Column));
    }

    [Theory]
    [InlineData("x\n  {{ a.b.c }}", 2, 10, "a mapping has no attribute 'b'")]
    [InlineData("{{ missing.x }}", 1, 12, "'missing' is undefined")]
    [InlineData("{{ 'n: ' + 1 }}", 1, 10, "'+' does not work on a string and an integer; '~' joins any values as text")]
    [InlineData("{{ 'a'|groupby('x') }}", 1, 8, "the filter 'groupby' is not covered")]
    [InlineData("{{ 'a' is xyz }}", 1, 11, "the test 'xyz' is not covered")]
    [InlineData("{{ 'a'.encode() }}", 1, 14, "the method 'encode' is not covered here: a string has no attribute 'encode'")]
    [InlineData("{{ lipsum() }}", 1, 10, "the function 'lipsum' is not defined or not covered")]
    [InlineData("{% set a.b = 1 %}", 1, 8, "cannot set 'a.b', because 'a' is not a namespace(…)")]
    [InlineData("{{ 'a'|replace('b') }}", 1, 8, "'replace' needs the argument 'new'")]
    [InlineData("{{ 'a'|upper(x=1) }}", 1, 8, "'upper' has no argument 'x'")]
    [InlineData("{{ [1]|sort(1,2,3,4) }}", 1, 8, "'sort' takes at most 3 arguments, 4 were given")]
    [InlineData("{% for x in 5 %}{% endfor %}", 1, 4, "an integer cannot be looped over")]
    [InlineData("{{ strftime_now('%Q') }}", 1, 16, "strftime_now: the directive '%Q' is not covered")]
    [InlineData("{{ 9 ** 9 ** 9 ** 9 ** 9 }}", 1, 21, "an integer grew beyond 4096 bits")]
    [InlineData("{{ range(1000000) }}", 1, 9, "'range' of 1000000 numbers is longer than 100000")]
    public void A_failing_template_names_the_place(string template, int line, int column, string problem)
    {
        ChatTemplate parsed = ChatTemplate.Parse(template, "test");
        ChatTemplateException error = Assert.Throws<ChatTemplateException>(() => parsed.Render([], new() { Variables = new() { ["a"] = new JsonObject() } }));
        Assert.Equal($"chat template 'test', line {line}, column {column}: {problem}", error.Message);
        Assert.False(error.RaisedByTemplate);
    }

    [Fact]
    public void What_is_not_covered_is_listed_and_fails_only_when_reached()
    {
        ChatTemplate template = ChatTemplate.Parse("{% if false %}{{ x | urlize }}{{ x is weird }}{% endif %}ok");
        Assert.Equal(["line 1, column 22: the filter 'urlize'", "line 1, column 39: the test 'weird'"], template.NotCovered);
        Assert.Equal("ok", template.Render([]));
    }

    [Fact]
    public void A_refusal_by_the_template_is_told_apart()
    {
        ChatTemplateException error = Assert.Throws<ChatTemplateException>(() => ChatTemplate.Parse("{{ raise_exception('roles must\nalternate') }}", "m").Render([]));
        Assert.True(error.RaisedByTemplate);
        Assert.Equal("chat template 'm', line 1, column 19: roles must alternate", error.Message);
    }

    [Theory]
    [InlineData("{% for a in range(100000) %}{% for b in range(100000) %}{% endfor %}{% endfor %}", "steps")]
    [InlineData("{% set l = [1] %}{% for x in range(99) %}{% set l = l + l %}{{ l|length }}{% endfor %}{% set ns = namespace(l=[1]) %}{% for x in range(99) %}{% set ns.l = ns.l + ns.l %}{% endfor %}", "steps")]
    [InlineData("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", "depth")]
    [InlineData("{% set l = [] %}{{ l.append(l) }}{{ l }}", "depth")]
    [InlineData("{% set l = [] %}{{ l.append(l) }}{{ l | tojson }}", "depth")]
    [InlineData("{% set l = [] %}{{ l.append(l) }}{% set k = [l] %}{{ l == k }}", "depth")]
    [InlineData("{% set ns = namespace(s='abcdefgh') %}{% for x in range(99) %}{% set ns.s = ns.s + ns.s %}{% endfor %}", "text of more than")]
    [InlineData("{{ 'x' * 100000000 }}", "text of more than")]
    [InlineData("{{ ('x' * 100000).replace('x', 'y' * 100000) }}", "text of more than")]
    [InlineData("{{ 'x'.ljust(100000000) }}", "text of more than")]
    [InlineData("{{ '%99999999d' % 5 }}", "text of more than")]
    [InlineData("{{ (['y' * 100000] * 100000) | join }}", "text of more than")]
    [InlineData("{% for a in range(100000) %}{{ 'x' * 1000 }}{% endfor %}", "text of more than")]
    [InlineData("{{ [1] * 1000000000 }}", "steps")]
    [InlineData("{% set ns = namespace(l=[0]) %}{% for x in range(60) %}{% set ns.l = [ns.l, ns.l] %}{% endfor %}{{ ns.l }}", "steps")]
    public void Runaway_templates_are_stopped(string template, string limit)
    {
        Stopwatch clock = Stopwatch.StartNew();
        ChatTemplate parsed = ChatTemplate.Parse(template);
        ChatTemplateException error = Assert.Throws<ChatTemplateException>(() => parsed.Render([]));
        TestContext.Current.TestOutputHelper!.WriteLine($"{clock.ElapsedMilliseconds} ms: {error.Message}");
        Assert.Contains("the template was stopped", error.Message, StringComparison.Ordinal);
        Assert.Contains(limit, error.Message, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("(", ")")]
    [InlineData("[", "]")]
    [InlineData("{1:", "}")]
    [InlineData("not ", "")]
    [InlineData("- ", "")]
    [InlineData("1 if 1 else ", "")]
    [InlineData("x(", ")")]
    [InlineData("x[", "]")]
    [InlineData("x|default(", ")")]
    [InlineData("x is in [", "]")]
    public void Deep_nesting_is_refused_and_never_overflows_the_stack(string open, string close)
    {
        string Nested(int depth) => "{{ " + string.Concat(Enumerable.Repeat(open, depth)) + "1" + string.Concat(Enumerable.Repeat(close, depth)) + " }}";
        _ = ChatTemplate.Parse(Nested(50));
        ChatTemplateException? error = null;
        Thread small = new(() => error = Assert.Throws<ChatTemplateException>(() => ChatTemplate.Parse(Nested(100_000))), 512 * 1024);
        small.Start();
        small.Join();
        Assert.Contains("levels deep", error!.Message, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("{{ 1", " + 1", " }}")]
    [InlineData("{{ x", "|d(1)", " }}")]
    [InlineData("{{ 'a'", "[0]", " }}")]
    [InlineData("{{ 'a'", ".strip()", " }}")]
    [InlineData("{{ 1", " and 1", " }}")]
    public void Long_chains_are_refused_and_never_overflow_the_stack(string start, string link, string end)
    {
        string Chain(int length) => start + string.Concat(Enumerable.Repeat(link, length)) + end;
        _ = ChatTemplate.Parse(Chain(100)).Render([]);
        ChatTemplate parsed = ChatTemplate.Parse(Chain(100_000));
        ChatTemplateException? error = null;
        Thread small = new(() => error = Assert.Throws<ChatTemplateException>(() => parsed.Render([])), 512 * 1024);
        small.Start();
        small.Join();
        Assert.Contains("depth", error!.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Nested_statements_are_refused()
    {
        string template = string.Concat(Enumerable.Repeat("{% if 1 %}", 5000)) + string.Concat(Enumerable.Repeat("{% endif %}", 5000));
        Assert.Contains("levels deep", Assert.Throws<ChatTemplateException>(() => ChatTemplate.Parse(template)).Message, StringComparison.Ordinal);
    }
}
