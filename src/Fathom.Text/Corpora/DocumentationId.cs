// Documentation ids, the names that compilers give to members in XML documentation (C# specification, annex D.4.2), as
// C# would write them: M:System.String.Join(System.String,System.String[]) is string.Join(string, string[]).
// The trap: an id has no names for type parameters (`0 is the declaring type's first, ``0 the method's) nor for
// parameters; they come from the documentation itself, and from the declaring type's where they are the type's.
using System.Globalization;
using System.Text;

namespace Fathom.Text;

/// <summary>Renders documentation ids.</summary>
/// <param name="typeParameters">Names of the type parameters of generic types, by the type's id without prefix, e.g. <c>System.Func`2</c>.</param>
internal sealed class DocumentationId(IReadOnlyDictionary<string, string[]> typeParameters)
{
    // Types nest by recursion; no id of a real library comes near this length.
    private const int MaximumLength = 4096;

    private static readonly Dictionary<string, string> Aliases = new()
    {
        ["System.Boolean"] = "bool",
        ["System.Byte"] = "byte",
        ["System.SByte"] = "sbyte",
        ["System.Char"] = "char",
        ["System.Decimal"] = "decimal",
        ["System.Double"] = "double",
        ["System.Single"] = "float",
        ["System.Int16"] = "short",
        ["System.UInt16"] = "ushort",
        ["System.Int32"] = "int",
        ["System.UInt32"] = "uint",
        ["System.Int64"] = "long",
        ["System.UInt64"] = "ulong",
        ["System.IntPtr"] = "nint",
        ["System.UIntPtr"] = "nuint",
        ["System.Object"] = "object",
        ["System.String"] = "string",
        ["System.Void"] = "void",
    };

    private static readonly Dictionary<string, string> Operators = new()
    {
        ["op_Addition"] = "+",
        ["op_Subtraction"] = "-",
        ["op_Multiply"] = "*",
        ["op_Division"] = "/",
        ["op_Modulus"] = "%",
        ["op_BitwiseAnd"] = "&",
        ["op_BitwiseOr"] = "|",
        ["op_ExclusiveOr"] = "^",
        ["op_OnesComplement"] = "~",
        ["op_LogicalNot"] = "!",
        ["op_LeftShift"] = "<<",
        ["op_RightShift"] = ">>",
        ["op_UnsignedRightShift"] = ">>>",
        ["op_Equality"] = "==",
        ["op_Inequality"] = "!=",
        ["op_LessThan"] = "<",
        ["op_LessThanOrEqual"] = "<=",
        ["op_GreaterThan"] = ">",
        ["op_GreaterThanOrEqual"] = ">=",
        ["op_Increment"] = "++",
        ["op_Decrement"] = "--",
        ["op_UnaryNegation"] = "-",
        ["op_UnaryPlus"] = "+",
        ["op_True"] = "true",
        ["op_False"] = "false",
    };

    /// <summary>
    /// A member's heading, e.g. <c>method System.String.Join(string separator, string[] value)</c>.
    /// </summary>
    /// <param name="id">The id with its prefix.</param>
    /// <param name="parameters">Names of the parameters in order; used when there are as many as the id has.</param>
    /// <param name="methodTypeParameters">Names of the member's own type parameters in order.</param>
    public string Heading(string id, IReadOnlyList<string> parameters, IReadOnlyList<string> methodTypeParameters)
    {
        if (id.Length > MaximumLength) return "member";
        Parts parts = Split(id);
        string[] declaring = parts.Kind == 'T' ? [] : TypeParametersOf(parts.Declaring);
        StringBuilder text = new(160);
        string kind = parts.Kind switch
        {
            'N' => "namespace",
            'T' => "type",
            'F' => "field",
            'P' => "property",
            'E' => "event",
            'M' when parts.Member is "#ctor" => "constructor",
            'M' when parts.Member is "#cctor" => "static constructor",
            'M' => "method",
            _ => "member",
        };
        text.Append(kind).Append(' ');
        if (parts.Kind is 'T' or 'N') return text.Append(TypeName(parts.Declaring, full: true)).ToString();

        text.Append(TypeName(parts.Declaring, full: true));
        string[] own = OwnTypeParameters(parts.MethodArity, methodTypeParameters);
        Context context = new(declaring, own);
        bool indexer = parts.Kind == 'P' && parts.Arguments.Length > 0;
        if (parts.Kind == 'M' && parts.Member.StartsWith("op_", StringComparison.Ordinal))
        {
            bool conversion = parts.Member is "op_Implicit" or "op_Explicit" or "op_CheckedExplicit";
            bool isChecked = parts.Member.StartsWith("op_Checked", StringComparison.Ordinal);
            string name = isChecked ? "op_" + parts.Member["op_Checked".Length..] : parts.Member;
            text.Append('.');
            if (conversion) text.Append(name == "op_Implicit" ? "implicit " : "explicit ");
            text.Append("operator ");
            if (isChecked) text.Append("checked ");
            text.Append(conversion ? TypeReference(parts.Result, context) : Operators.GetValueOrDefault(name, name));
        }
        else if (!kind.EndsWith("constructor", StringComparison.Ordinal))
        {
            text.Append('.').Append(indexer && parts.Member == "Item" ? "this" : MemberName(parts.Member));
            if (own.Length > 0) text.Append('<').AppendJoin(", ", own).Append('>');
        }

        if (parts.Kind == 'M' || indexer)
        {
            text.Append(indexer ? '[' : '(');
            AppendParameters(text, parts.Arguments, parameters, context);
            text.Append(indexer ? ']' : ')');
        }

        return text.ToString();
    }

    /// <summary>How prose names the thing, e.g. <c>List&lt;T&gt;</c> or <c>String.Join</c>.</summary>
    public string Reference(string id)
    {
        if (id.Length > MaximumLength) return "member";
        Parts parts = Split(id);
        if (parts.Kind == 'N') return parts.Declaring;
        if (parts.Kind == 'T') return TypeName(parts.Declaring, full: false);
        string type = TypeName(parts.Declaring, full: false);
        if (parts.Member is "#ctor" or "#cctor") return type;
        if (parts.Member.StartsWith("op_", StringComparison.Ordinal))
            return $"{type}.{(Operators.TryGetValue(parts.Member, out string? symbol) ? "operator " + symbol : parts.Member[3..])}";
        return parts.Kind == 'P' && parts.Member == "Item" && parts.Arguments.Length > 0 ? $"{type}.this[]" : $"{type}.{MemberName(parts.Member)}";
    }

    private static Parts Split(string id)
    {
        char kind = id.Length > 2 && id[1] == ':' ? id[0] : 'T';
        string name = id.Length > 2 && id[1] == ':' ? id[2..] : id;
        string result = "";
        string arguments = "";
        int parenthesis = name.IndexOf('(');
        if (parenthesis >= 0)
        {
            int close = name.LastIndexOf(')');
            if (close < parenthesis) close = name.Length;
            arguments = name[(parenthesis + 1)..close];
            int tilde = name.IndexOf('~', close);
            if (tilde >= 0) result = name[(tilde + 1)..];
            name = name[..parenthesis];
        }

        if (kind is 'T' or 'N') return new Parts(kind, name, "", 0, arguments, result);
        int dot = name.LastIndexOf('.');
        string member = name[(dot + 1)..];
        int arity = 0;
        int ticks = member.IndexOf("``", StringComparison.Ordinal);
        if (ticks >= 0)
        {
            if (!int.TryParse(member.AsSpan(ticks + 2), NumberStyles.None, CultureInfo.InvariantCulture, out arity) || arity > 64) arity = 0;
            member = member[..ticks];
        }

        return new Parts(kind, dot < 0 ? "" : name[..dot], member, arity, arguments, result);
    }

    /// <summary>
    /// Explicit implementations write their interface in front, with # for the dots and @ for the commas; it is given
    /// as C# code would, without namespaces.
    /// </summary>
    private static string MemberName(string member)
    {
        if (!member.Contains('#')) return member;
        string name = member.Replace('#', '.').Replace('@', ',');
        int split = name.LastIndexOf('.');
        string method = name[(split + 1)..];
        if (method.Contains('}')) return method;
        bool isChecked = method.StartsWith("op_Checked", StringComparison.Ordinal);
        if (Operators.TryGetValue(isChecked ? "op_" + method["op_Checked".Length..] : method, out string? symbol))
            method = $"operator {(isChecked ? "checked " : "")}{symbol}";
        return $"{TypeReference(name[..split], new Context([], []))}.{method}";
    }

    private static string[] OwnTypeParameters(int arity, IReadOnlyList<string> names)
    {
        if (arity == names.Count) return [.. names];
        return arity == 1 ? ["T"] : [.. Enumerable.Range(1, arity).Select(static i => $"T{i}")];
    }

    /// <summary>All type parameters that a type's members may use: those of the types around it, then its own.</summary>
    private string[] TypeParametersOf(string type)
    {
        List<string> names = [];
        for (int tick = type.IndexOf('`'); tick >= 0; tick = type.IndexOf('`', tick + 1))
        {
            int end = tick + 1;
            while (end < type.Length && char.IsAsciiDigit(type[end])) end++;
            names.AddRange(NamesOf(type[..end], Arity(type.AsSpan(tick + 1, end - tick - 1))));
        }

        return [.. names];
    }

    private string[] NamesOf(string type, int arity)
    {
        // A nested type's documentation repeats the names of the types around it; its own come last.
        if (typeParameters.TryGetValue(type, out string[]? names) && names.Length >= arity) return names[^arity..];
        return arity == 1 ? ["T"] : [.. Enumerable.Range(1, arity).Select(static i => $"T{i}")];
    }

    private static int Arity(ReadOnlySpan<char> digits) =>
        int.TryParse(digits, NumberStyles.None, CultureInfo.InvariantCulture, out int arity) && arity <= 64 ? arity : 0;

    /// <summary>A type by its id: List`1 becomes List&lt;T&gt;. Without the namespace unless it is wanted.</summary>
    private string TypeName(string id, bool full)
    {
        StringBuilder text = new(id.Length);
        int segment = 0;
        bool keep = full;
        while (segment <= id.Length)
        {
            int dot = id.IndexOf('.', segment);
            if (dot < 0) dot = id.Length;
            ReadOnlySpan<char> name = id.AsSpan(segment, dot - segment);
            int tick = name.IndexOf('`');
            bool last = dot == id.Length;
            if (keep || last || tick >= 0)
            {
                if (text.Length > 0) text.Append('.');
                text.Append(tick < 0 ? name : name[..tick]);
                if (tick >= 0)
                {
                    text.Append('<').AppendJoin(", ", NamesOf(id[..dot], Arity(name[(tick + 1)..]))).Append('>');
                    keep = true;
                }
            }

            segment = dot + 1;
        }

        return text.ToString();
    }

    private static void AppendParameters(StringBuilder text, string arguments, IReadOnlyList<string> names, Context context)
    {
        List<string> types = [];
        for (int at = 0; at < arguments.Length; at++)
        {
            StringBuilder type = new();
            AppendType(type, arguments, ref at, context);
            types.Add(type.ToString());
        }

        bool named = names.Count == types.Count;
        for (int i = 0; i < types.Count; i++)
        {
            if (i > 0) text.Append(", ");
            text.Append(types[i]);
            if (named) text.Append(' ').Append(names[i]);
        }
    }

    private static string TypeReference(string id, Context context)
    {
        StringBuilder text = new();
        int at = 0;
        AppendType(text, id, ref at, context);
        return text.ToString();
    }

    /// <summary>One type of an argument list, up to the comma or brace that ends it; <paramref name="at"/> is left there.</summary>
    private static void AppendType(StringBuilder text, string id, ref int at, Context context)
    {
        int begin = text.Length;
        int nameStart = at;
        bool generic = false;
        while (at < id.Length)
        {
            char c = id[at];
            if (c == '`')
            {
                bool method = at + 1 < id.Length && id[at + 1] == '`';
                at += method ? 2 : 1;
                int digits = at;
                while (at < id.Length && char.IsAsciiDigit(id[at])) at++;
                string[] names = method ? context.Method : context.Declaring;
                bool known = int.TryParse(id.AsSpan(digits, at - digits), NumberStyles.None, CultureInfo.InvariantCulture, out int index) && index < names.Length;
                text.Append(known ? names[index] : "T");
                nameStart = at;
            }
            else if (c == '{')
            {
                AppendSimple(text, id[nameStart..at], generic);
                string outer = id[nameStart..at];
                List<string> arguments = [];
                do
                {
                    at++;
                    StringBuilder argument = new();
                    AppendType(argument, id, ref at, context);
                    arguments.Add(argument.ToString());
                }
                while (at < id.Length && id[at] == ',');
                at = Math.Min(at + 1, id.Length);
                generic = true;
                nameStart = at;
                if (outer == "System.Nullable" && arguments.Count == 1)
                {
                    text.Length = begin;
                    text.Append(arguments[0]).Append('?');
                }
                else if (outer == "System.ValueTuple" && arguments.Count > 1)
                {
                    text.Length = begin;
                    text.Append('(').AppendJoin(", ", arguments).Append(')');
                }
                else
                {
                    text.Append('<').AppendJoin(", ", arguments).Append('>');
                }
            }
            else if (c is '[' or '@' or '*' or ',' or '}' or ')')
            {
                break;
            }
            else
            {
                at++;
            }
        }

        AppendSimple(text, id[nameStart..at], generic);
        AppendSuffixes(text, begin, id, ref at);
    }

    /// <summary>Arrays and pointers behind a type, and references in front of it.</summary>
    private static void AppendSuffixes(StringBuilder text, int begin, string id, ref int at)
    {
        for (; at < id.Length; at++)
        {
            if (id[at] == '*') text.Append('*');
            else if (id[at] == '@') text.Insert(begin, "ref ");
            else if (id[at] == '[')
            {
                int close = id.IndexOf(']', at);
                if (close < 0) close = id.Length - 1;
                text.Append('[').Append(',', id.AsSpan(at, close - at).Count(',')).Append(']');
                at = close;
            }
            else
            {
                break;
            }
        }
    }

    private static void AppendSimple(StringBuilder text, string name, bool nested)
    {
        if (name.Length == 0) return;
        if (nested) text.Append(name);
        else if (Aliases.TryGetValue(name, out string? alias)) text.Append(alias);
        else text.Append(name.AsSpan(name.LastIndexOf('.') + 1));
    }

    private readonly record struct Parts(char Kind, string Declaring, string Member, int MethodArity, string Arguments, string Result);

    private readonly record struct Context(string[] Declaring, string[] Method);
}
