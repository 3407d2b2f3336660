using System.Globalization;
using Fathom.Numerics;

namespace Fathom.Cli.Verbs;

/// <summary>Token ids on a command line: numbers between commas.</summary>
internal static class TokenIds
{
    /// <summary>Reads ids.</summary>
    /// <exception cref="FathomException">A part is not a number, or there is none.</exception>
    public static int[] Parse(string text)
    {
        string[] parts = text.Split([',', ' '], StringSplitOptions.RemoveEmptyEntries | StringSplitOptions.TrimEntries);
        if (parts.Length == 0) throw new FathomException("--ids is empty; give numbers between commas, as --ids 1,2,3");
        return [.. parts.Select(part => int.TryParse(part, NumberStyles.None, CultureInfo.InvariantCulture, out int id)
            ? id
            : throw new FathomException($"--ids: \"{part}\" is not a token id; give numbers between commas, as --ids 1,2,3"))];
    }

    /// <summary>Writes ids as <see cref="Parse"/> reads them.</summary>
    public static string Format(IEnumerable<int> ids) => string.Join(',', ids);
}
