// Attributes and subscripts. Jinja lets each stand in for the other, in different order: a.b looks for a method of a
// first and for the key 'b' second, a['b'] the other way round. So message.items is the method even when the message
// has a key 'items', and message['items'] is the key.
using System.Numerics;

namespace Fathom.Text.Templates;

internal static class Members
{
    /// <summary><c>target.name</c></summary>
    public static object Attribute(RenderRun run, object target, string name)
    {
        if (target is Undefined undefined) throw run.Error(undefined);
        return Own(target, name) ?? Key(target, name) ?? Undefined.Member(target, name);
    }

    /// <summary><c>target[key]</c></summary>
    public static object Subscript(RenderRun run, object target, object key)
    {
        if (target is Undefined undefined) throw run.Error(undefined);
        return Key(target, key) ?? (key is string name ? Own(target, name) : null) ?? Undefined.Member(target, PythonText.Of(run, key));
    }

    private static object? Own(object target, string name)
    {
        switch (target)
        {
            case LoopState loop:
                return loop.Attribute(name);
            case TemplateNamespace space:
                return space.Attributes.GetValueOrDefault(name);
            case Macro macro when name == "name":
                return macro.Name;
            default:
                return Methods.Find(target, name) is { } method ? new BoundMethod(method, target) : null;
        }
    }

    private static object? Key(object target, object key)
    {
        if (target is TemplateDictionary dictionary)
        {
            return TemplateDictionary.CanBeKey(key) && dictionary.TryGet(key, out object value) ? value : null;
        }

        if (!Numbers.TryToInteger(key, out BigInteger index) || Values.Length(target) is not { } length) return null;
        if (index.Sign < 0) index += length;
        if (index.Sign < 0 || index >= length) return null;
        return target switch
        {
            List<object> list => list[(int)index],
            TemplateTuple tuple => tuple.Items[(int)index],
            string text => Character(text, CodePoints.OffsetOf(text, (int)index)),
            _ => null,
        };
    }

    private static string Character(string text, int offset) => text.Substring(offset, CodePoints.LengthAt(text, offset));
}
