namespace Fathom.Text.Templates;

/// <summary>The filters <c>value | name(…)</c> by name.</summary>
internal static class Filters
{
    private static readonly Dictionary<string, Function> s_filters = Collect();

    /// <summary>A filter; null when it is not covered.</summary>
    public static Function? Find(string name) => s_filters.GetValueOrDefault(name);

    private static Dictionary<string, Function> Collect()
    {
        Dictionary<string, Function> filters = new(StringComparer.Ordinal);
        foreach (Function filter in (IEnumerable<Function>)[.. TextFilters.All, .. SequenceFilters.All, .. ValueFilters.All]) filters.Add(filter.Name, filter);
        filters.Add("count", filters["length"]);
        filters.Add("d", filters["default"]);
        filters.Add("e", filters["escape"]);
        return filters;
    }
}
