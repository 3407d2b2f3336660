// A page that is one file: text, plots with their legends, tables with the numbers. It asks for nothing from the network and runs
// no script, so that it can be kept beside the run that it reports.
using System.Globalization;
using System.Net;
using System.Text;

namespace Fathom.Studies.Reports;

/// <summary>A page in the making: parts are added from top to bottom.</summary>
/// <param name="title">Its title.</param>
public sealed class ReportPage(string title)
{
    private readonly StringBuilder body = new();
    private int plots;

    /// <summary>Adds a heading.</summary>
    public ReportPage Heading(string text) => Add($"<h2>{Text(text)}</h2>\n");

    /// <summary>Adds a paragraph.</summary>
    public ReportPage Paragraph(string text) => Add($"<p>{Text(text)}</p>\n");

    /// <summary>Adds the answer that the page gives, set apart.</summary>
    /// <param name="text">One or two sentences.</param>
    /// <param name="holds">Whether what was to be shown holds; null where that is not the question.</param>
    public ReportPage Verdict(string text, bool? holds) =>
        Add($"<p class=\"verdict{(holds is null ? "" : holds.Value ? " holds" : " fails")}\">{Text(text)}</p>\n");

    /// <summary>Adds a command that a reader can run.</summary>
    public ReportPage Command(string text) => Add($"<pre><code>{Text(text)}</code></pre>\n");

    /// <summary>Adds a plot with its legend.</summary>
    public ReportPage Plot(LinePlot plot)
    {
        string id = string.Create(CultureInfo.InvariantCulture, $"plot{plots++}");
        Add($"<figure>\n<figcaption><strong>{Text(plot.Title)}</strong><br>{Text(plot.Y.Label)}</figcaption>\n");
        Add(SvgPlot.Draw(plot, id));
        Add("<ul class=\"legend\">");
        for (int i = 0; i < plot.Series.Count; i++) Add($"<li>{SvgPlot.Key(plot, i)}{Text(plot.Series[i].Name)}</li>");
        return Add("</ul>\n</figure>\n");
    }

    /// <summary>Adds a table; its first column names the rows.</summary>
    /// <param name="caption">What it holds.</param>
    /// <param name="columns">Titles of the columns.</param>
    /// <param name="rows">As many cells each.</param>
    public ReportPage Table(string caption, IReadOnlyList<string> columns, IEnumerable<IReadOnlyList<string>> rows)
    {
        Add($"<div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-label=\"{Text(caption)}\"><table>\n<caption>{Text(caption)}</caption>\n<thead><tr>");
        foreach (string column in columns) Add($"<th scope=\"col\">{Text(column)}</th>");
        Add("</tr></thead>\n<tbody>\n");
        foreach (IReadOnlyList<string> row in rows)
        {
            Add($"<tr><th scope=\"row\">{Text(row[0])}</th>");
            foreach (string cell in row.Skip(1)) Add($"<td>{Text(cell)}</td>");
            Add("</tr>\n");
        }

        return Add("</tbody>\n</table></div>\n");
    }

    /// <summary>The page.</summary>
    public string ToHtml() => $$"""
        <!DOCTYPE html>
        <html lang="en">
        <head>
        <meta charset="utf-8">
        <meta name="viewport" content="width=device-width, initial-scale=1">
        <title>{{Text(title)}}</title>
        <style>
        :root {
          color-scheme: light dark;
          --paper: #ffffff; --ink: #1b1f24; --soft: #59636e; --rule: #d5dae0; --good: #1a7f37; --bad: #b3261e;
          --s0: #0064a6; --s1: #c44a00; --s2: #00795a; --s3: #9c3f86; --s4: #7a5c00; --s5: #3c6f9c; --s6: #1b1f24;
        }
        @media (prefers-color-scheme: dark) {
          :root {
            --paper: #14171c; --ink: #e7eaee; --soft: #a3adb8; --rule: #353c45; --good: #58c073; --bad: #ff8a80;
            --s0: #5cb3f5; --s1: #ff9559; --s2: #3ecfa4; --s3: #e592d2; --s4: #e2c044; --s5: #a9c6e8; --s6: #e7eaee;
          }
        }
        * { box-sizing: border-box; }
        body { margin: 0 auto; padding: 1.2rem 1rem 3rem; max-width: 48rem; background: var(--paper); color: var(--ink); font: 16px/1.5 system-ui, sans-serif; }
        h1 { font-size: 1.6rem; line-height: 1.2; }
        h2 { font-size: 1.2rem; margin-top: 2.2rem; }
        pre { overflow-x: auto; padding: 0.6rem 0.8rem; border: 1px solid var(--rule); border-radius: 6px; font-size: 0.85rem; }
        .verdict { border-left: 4px solid var(--soft); padding: 0.4rem 0.9rem; font-weight: 600; }
        .holds { border-color: var(--good); }
        .fails { border-color: var(--bad); }
        figure { margin: 1.4rem 0; }
        figcaption { margin-bottom: 0.4rem; font-size: 0.95rem; }
        figure > svg { display: block; width: 100%; height: auto; }
        svg text { font: 13px system-ui, sans-serif; fill: var(--soft); }
        svg text.label { fill: var(--ink); }
        svg text.bound-label { fill: var(--bad); }
        .grid { stroke: var(--rule); stroke-width: 1; fill: none; }
        .axis { stroke: var(--soft); stroke-width: 1.2; fill: none; }
        .bound { stroke: var(--bad); stroke-width: 1.2; stroke-dasharray: 6 4; fill: none; }
        .line { stroke-width: 2.2; fill: none; stroke-linejoin: round; }
        {{SvgPlot.Style()}}.legend { display: flex; flex-wrap: wrap; gap: 0.2rem 1.2rem; margin: 0.5rem 0 0; padding: 0; list-style: none; font-size: 0.9rem; }
        .key { width: 2.2rem; height: 0.62rem; margin-right: 0.5rem; }
        .scroll { overflow-x: auto; margin: 1rem 0; }
        table { border-collapse: collapse; font-size: 0.85rem; font-variant-numeric: tabular-nums; }
        caption { text-align: left; color: var(--soft); padding-bottom: 0.3rem; }
        th, td { padding: 0.25rem 0.7rem; border-bottom: 1px solid var(--rule); text-align: right; white-space: nowrap; }
        thead th { white-space: normal; vertical-align: bottom; }
        th:first-child, td:first-child { text-align: left; padding-left: 0; }
        @media (max-width: 34rem) { svg text { font-size: 20px; } .line { stroke-width: 3.2; } }
        </style>
        </head>
        <body>
        <main>
        <h1>{{Text(title)}}</h1>
        {{body}}</main>
        </body>
        </html>

        """;

    private static string Text(string text) => WebUtility.HtmlEncode(text);

    private ReportPage Add(string html)
    {
        body.Append(html);
        return this;
    }
}
