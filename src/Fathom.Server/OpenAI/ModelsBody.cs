using System.Text.Json;
using Fathom.Server.Hosting;

namespace Fathom.Server.OpenAI;

/// <summary>The models that are served: one, under its names.</summary>
internal static class ModelsBody
{
    /// <summary>The list.</summary>
    public static void WriteList(Utf8JsonWriter json, ModelService service)
    {
        json.WriteStartObject();
        json.WriteString("object", "list");
        json.WriteStartArray("data");
        foreach (string name in service.Names) WriteOne(json, service, name);
        json.WriteEndArray();
        json.WriteEndObject();
    }

    /// <summary>One of them; max_model_len as vLLM has it.</summary>
    public static void WriteOne(Utf8JsonWriter json, ModelService service, string name)
    {
        json.WriteStartObject();
        json.WriteString("id", name);
        json.WriteString("object", "model");
        json.WriteNumber("created", service.Created);
        json.WriteString("owned_by", "fathom");
        json.WriteString("root", service.Name);
        json.WriteNumber("max_model_len", service.Engine.ContextTokens);
        json.WriteEndObject();
    }
}
