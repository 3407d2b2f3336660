using System.Text.Json.Nodes;
using Fathom.Inference;
using Fathom.Server.Http;

namespace Fathom.Server.OpenAI;

/// <summary>Reads the functions of a request and whether they are called.</summary>
internal static class ToolReader
{
    /// <summary>Most functions of a request.</summary>
    public const int MostTools = 128;

    /// <summary>Functions as chats have them: {type: "function", function: {name, …}}.</summary>
    public static IReadOnlyList<ToolDefinition> Tools(JsonField? tools)
    {
        if (tools is not { } field) return [];
        List<ToolDefinition> list = [];
        foreach (JsonField tool in field.Items(MostTools))
        {
            JsonField type = tool.Require("type");
            if (type.Text() != "function") throw type.Impossible("must be function");
            list.Add(Function(tool.Require("function")));
        }

        return Distinct(list, field);
    }

    /// <summary>One function: name, description, parameters, strict.</summary>
    /// <param name="function">The object.</param>
    /// <param name="parameters">Name of the field with the schema.</param>
    public static ToolDefinition Function(JsonField function, string parameters = "parameters")
    {
        JsonField nameField = function.Require("name");
        string name = nameField.Text();
        if (name.Length is 0 or > 64 || !name.All(c => char.IsAsciiLetterOrDigit(c) || c is '_' or '-'))
            throw nameField.Impossible("must be 1 to 64 letters, digits, underscores and hyphens");
        JsonObject? schema = null;
        if (function.Get(parameters) is { } given) schema = given.IsObject ? (JsonObject)given.Node() : throw given.Wrong("an object");
        return new ToolDefinition(name, function.Get("description")?.Text(), schema, function.Get("strict")?.Boolean() ?? false);
    }

    /// <summary>Refuses two functions of one name.</summary>
    public static IReadOnlyList<ToolDefinition> Distinct(IReadOnlyList<ToolDefinition> tools, JsonField field) =>
        tools.DistinctBy(t => t.Name).Count() == tools.Count ? tools : throw field.Impossible("has two functions of the same name");

    /// <summary>none, auto, required, or {type: "function", function: {name}}.</summary>
    public static (ToolMode Mode, string? Name) Choice(JsonField? choice, IReadOnlyList<ToolDefinition> tools)
    {
        ToolMode usual = tools.Count > 0 ? ToolMode.Auto : ToolMode.None;
        if (choice is not { } field) return (usual, null);
        if (field.IsString)
        {
            return field.Text() switch
            {
                "none" => (ToolMode.None, null),
                "auto" => (usual, null),
                "required" => tools.Count > 0 ? (ToolMode.Required, null) : throw field.Impossible("is required, but there are no tools"),
                _ => throw field.Impossible("is not one of none, auto, required and a function"),
            };
        }

        if (!field.IsObject) throw field.Wrong("a string or an object");
        // Responses have the name beside the type.
        JsonField name = (field.Get("function") ?? field).Require("name");
        return Named(name, tools);
    }

    /// <summary>A certain function.</summary>
    public static (ToolMode Mode, string? Name) Named(JsonField name, IReadOnlyList<ToolDefinition> tools)
    {
        string text = name.Text();
        return tools.Any(t => t.Name == text) ? (ToolMode.Named, text) : throw name.Impossible("is not the name of one of the tools");
    }
}
