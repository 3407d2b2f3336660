// A macro is a function from values to text. It sees the variables around its definition as they are when it is
// called, not as they were when it was defined.
namespace Fathom.Text.Templates;

internal sealed class Macro(MacroDefinition definition, Scope enclosing) : ICallable
{
    public string Name => definition.Name;

    public object Call(RenderRun run, CallArguments arguments)
    {
        run.Enter();
        SourcePosition position = run.Position;
        Scope scope = new(enclosing);
        BindArguments(run, scope, arguments);
        TextBuffer text = new(run);
        StatementExecutor.Run(run, scope, definition.Body, text);
        run.Position = position;
        run.Leave();
        return text.ToString();
    }

    private void BindArguments(RenderRun run, Scope scope, CallArguments arguments)
    {
        IReadOnlyList<(string Name, Expression? Default)> parameters = definition.Parameters;
        if (arguments.Positional.Count > parameters.Count)
        {
            throw run.Error($"the macro '{Name}' takes at most {parameters.Count} arguments, {arguments.Positional.Count} were given");
        }

        foreach ((string name, object value) in arguments.Named)
        {
            int index = IndexOf(parameters, name);
            if (index < 0 && name != "caller") throw run.Error($"the macro '{Name}' has no parameter '{name}'");
            if (index >= 0 && index < arguments.Positional.Count) throw run.Error($"the macro '{Name}' got two values for '{name}'");
            scope.Set(name, value);
        }

        for (int index = 0; index < parameters.Count; index++)
        {
            (string name, Expression? defaultValue) = parameters[index];
            if (index < arguments.Positional.Count) scope.Set(name, arguments.Positional[index]);
            else if (arguments.Named.Any(argument => argument.Name == name)) continue;
            else if (defaultValue is not null) scope.Set(name, ExpressionEvaluator.Evaluate(run, scope, defaultValue));
            else scope.Set(name, new Undefined($"the parameter '{name}' of the macro '{Name}' was not given"));
        }
    }

    private static int IndexOf(IReadOnlyList<(string Name, Expression? Default)> parameters, string name)
    {
        for (int index = 0; index < parameters.Count; index++)
        {
            if (parameters[index].Name == name) return index;
        }

        return -1;
    }
}
