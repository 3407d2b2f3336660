// Objects. Properties come in the order of the schema, so that what is still required is known from the place alone; any order would need a
// state for every subset. Optional ones may be passed over, others (additionalProperties) come last.
using System.Text.Json;

namespace Fathom.Inference;

internal sealed partial class SchemaCompiler
{
    private readonly record struct Property(string Name, int Rule, bool Required);

    private void Object(string place, JsonElement schema, int start)
    {
        List<Property> members = Members(place, schema, out int? additional);
        int last = members.FindLastIndex(p => p.Required);
        int inside = builder.Node(), end = builder.Node();
        builder.Character(start, '{', inside);
        builder.Return(end);
        if (last < 0) rules.Mark(inside, '}', end);

        // names[i]: the names from the i-th on; where all are passed over, others.
        int[] names = [.. Enumerable.Range(0, members.Count + 1).Select(_ => builder.Node())];
        rules.WhiteSpace(inside, names[0]);
        for (int i = 0; i < members.Count; i++)
        {
            int named = builder.Node(), after = builder.Node();
            builder.Literal(names[i], JsonSpelling.Quoted(members[i].Name), named);
            rules.Value(named, members[i].Rule, after);
            if (i >= last) rules.Mark(after, '}', end);
            rules.Separator(after, names[i + 1]);
            if (!members[i].Required) builder.Jump(names[i], names[i + 1]);
        }

        if (additional is not { } rule) return; // after a comma there must be a name: of the last node none leads out
        int more = builder.Node();
        rules.Member(names[^1], OtherNames.Build(builder, members.Select(p => p.Name)), rule, more);
        rules.Mark(more, '}', end);
        rules.Separator(more, names[^1]);
    }

    /// <summary>The properties in their order; those required that are not declared come after the others.</summary>
    private List<Property> Members(string place, JsonElement schema, out int? additional)
    {
        additional = Additional(place, schema);
        HashSet<string> required = [];
        if (schema.TryGetProperty("required", out JsonElement list))
        {
            if (list.ValueKind != JsonValueKind.Array || list.EnumerateArray().Any(r => r.ValueKind != JsonValueKind.String)) throw Wrong(place, "required is not an array of names");
            required = [.. list.EnumerateArray().Select(r => r.GetString()!)];
        }

        List<Property> members = [];
        HashSet<string> declared = [];
        if (schema.TryGetProperty("properties", out JsonElement map))
        {
            if (map.ValueKind != JsonValueKind.Object) throw Wrong(place, "properties is not an object");
            foreach (JsonProperty property in map.EnumerateObject())
            {
                if (!declared.Add(property.Name)) throw Wrong(place, $"property '{Shortened(property.Name)}' is declared twice");
                if (++properties > MaxProperties) throw Wrong(place, $"the schema has more than {MaxProperties:N0} properties; make it smaller");
                if (strict && !required.Contains(property.Name))
                    throw Wrong(place, $"property '{Shortened(property.Name)}' is not required: strict mode wants all of them in 'required' (an optional one as a union with null)");
                members.Add(new Property(property.Name, Rule($"{place}/properties/{Escape(property.Name)}", property.Value), required.Contains(property.Name)));
            }
        }

        foreach (string name in required.Where(name => !declared.Contains(name)))
        {
            if (additional is not { } rule) throw Wrong(place, $"'{Shortened(name)}' is required, but not among the properties, and there may be no others");
            if (++properties > MaxProperties) throw Wrong(place, $"the schema has more than {MaxProperties:N0} properties; make it smaller");
            members.Add(new Property(name, rule, true));
        }

        return members;
    }

    /// <summary>The rule of other properties' values; null where there may be none.</summary>
    private int? Additional(string place, JsonElement schema)
    {
        bool given = schema.TryGetProperty("additionalProperties", out JsonElement value);
        if (strict && (!given || value.ValueKind != JsonValueKind.False)) throw Wrong(place, "strict mode wants \"additionalProperties\": false in every object");
        if (given && value.ValueKind == JsonValueKind.False) return null;
        return given ? Rule($"{place}/additionalProperties", value) : rules.AnyValue();
    }
}
