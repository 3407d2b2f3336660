namespace Fathom.Text.Templates;

/// <summary>Binds values to names, to attributes of namespaces, and item by item to tuples of those.</summary>
internal static class Assignments
{
    public static void Assign(RenderRun run, Scope scope, AssignmentTarget target, object value)
    {
        switch (target)
        {
            case NameTarget name:
                scope.Set(name.Name, value);
                break;
            case NamespaceTarget attribute:
                run.Position = attribute.Position;
                if (scope.Get(attribute.Name) is not TemplateNamespace space)
                {
                    throw run.Error($"cannot set '{attribute.Name}.{attribute.Attribute}', because '{attribute.Name}' is not a namespace(…)");
                }

                space.Attributes[attribute.Attribute] = value;
                break;
            case TupleTarget tuple:
                run.Position = tuple.Position;
                IReadOnlyList<object> items = Values.Items(run, value);
                if (items.Count != tuple.Items.Count)
                {
                    throw run.Error($"cannot unpack {TypeNames.Of(value)} of {items.Count} items into {tuple.Items.Count} variables");
                }

                for (int index = 0; index < items.Count; index++) Assign(run, scope, tuple.Items[index], items[index]);
                break;
        }
    }
}
