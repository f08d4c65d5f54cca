use rhai::{AST, ASTNode, CallFnOptions, Dynamic, Expr, Map, Scope, Stmt};

use crate::{
    CompileError, Opinion, PlaceFacts, PolicyFailure, RequestFacts, WorkerFacts,
    engine::LimitedEngine, errors::Cause, limits,
};

const ROUTE: &str = "route";
const PLACE: &str = "place";

/// A script that can be used.
#[derive(Debug, Clone)]
pub struct Policy {
    ast: AST,
    routes: bool,
    places: bool,
}

/// Refuses assignments to elements and properties: Rhai does not check the size of what they change.
fn check_assignments(ast: &AST) -> Result<(), CompileError> {
    let mut refused = None;
    ast.walk(&mut |path| {
        if let Some(ASTNode::Stmt(statement @ Stmt::Assignment(assignment))) = path.last()
            && !matches!(assignment.1.lhs, Expr::Variable(..))
        {
            refused = Some(statement.position());
        }
        refused.is_none()
    });
    match refused {
        Some(position) => Err(CompileError {
            message: "only variables can be assigned to, no elements and properties".into(),
            line: position.line(),
            column: position.position(),
        }),
        None => Ok(()),
    }
}

impl Policy {
    /// Compiles a script.
    ///
    /// Errors: the script is too large or no script, has statements outside of functions, or has
    /// neither `route(request, worker)` nor `place(request, place)`.
    pub fn compile(script: &str) -> Result<Self, CompileError> {
        if script.len() > limits::SCRIPT_BYTES {
            return Err(CompileError::too_large(script.len()));
        }
        let ast = LimitedEngine::new().engine.compile(script)?;
        if !ast.statements().is_empty() {
            return Err(CompileError::whole(
                "a policy has functions only; what is outside of them would never run",
            ));
        }
        check_assignments(&ast)?;
        let (mut routes, mut places) = (false, false);
        for function in ast.iter_functions() {
            let found = match function.name {
                ROUTE => &mut routes,
                PLACE => &mut places,
                _ => continue,
            };
            if function.params.len() != 2 {
                return Err(CompileError::whole(format!(
                    "the function `{}` must have two parameters, and it has {}",
                    function.name,
                    function.params.len()
                )));
            }
            *found = true;
        }
        if !routes && !places {
            return Err(CompileError::whole(
                "the script has neither `fn route(request, worker)` nor `fn place(request, place)`",
            ));
        }
        Ok(Self {
            ast,
            routes,
            places,
        })
    }

    /// Whether it has the function `route`.
    pub fn routes(&self) -> bool {
        self.routes
    }

    /// Whether it has the function `place`.
    pub fn places(&self) -> bool {
        self.places
    }

    /// Returns the opinions of the workers, in their order. There are none without a function
    /// `route`.
    ///
    /// Errors: the function failed for one of them, exceeded a limit, or returned something else
    /// than an opinion.
    pub fn route<'a>(
        &self,
        request: &RequestFacts,
        workers: impl IntoIterator<Item = &'a WorkerFacts>,
    ) -> Result<Vec<Opinion>, PolicyFailure> {
        if !self.routes {
            return Ok(Vec::new());
        }
        let workers = workers.into_iter();
        let workers = workers.map(|worker| (worker.to_map(), worker.name.clone()));
        self.opinions(ROUTE, request, workers)
    }

    /// Returns the opinions of the places, in their order. There are none without a function
    /// `place`.
    ///
    /// Errors: as those of [`route`](Self::route).
    pub fn place<'a>(
        &self,
        request: &RequestFacts,
        places: impl IntoIterator<Item = &'a PlaceFacts>,
    ) -> Result<Vec<Opinion>, PolicyFailure> {
        if !self.places {
            return Ok(Vec::new());
        }
        let places = places.into_iter();
        let places =
            places.map(|place| (place.to_map(), format!("{} {}", place.node, place.backend)));
        self.opinions(PLACE, request, places)
    }

    fn opinions(
        &self,
        function: &'static str,
        request: &RequestFacts,
        candidates: impl Iterator<Item = (Map, String)>,
    ) -> Result<Vec<Opinion>, PolicyFailure> {
        let limited = LimitedEngine::new();
        let request = request.to_map();
        let opinion = |(candidate, name): (Map, String)| {
            let options = CallFnOptions::new().eval_ast(false);
            let arguments = (request.clone(), candidate);
            let result = limited.engine.call_fn_with_options::<Dynamic>(
                options,
                &mut Scope::new(),
                &self.ast,
                function,
                arguments,
            );
            limited.call_ended();
            result
                .map_err(Cause::from)
                .and_then(Opinion::from_result)
                .map_err(|cause| cause.of(function, name))
        };
        candidates.map(opinion).collect()
    }
}
