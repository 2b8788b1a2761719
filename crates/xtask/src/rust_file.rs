//! What `tidy` measures in one Rust file: lengths, unwraps, casts, `unsafe`, and which of it is test code.

use proc_macro2::{TokenStream, TokenTree};
use syn::spanned::Spanned;
use syn::visit::{self, Visit};

/// A function outside tests.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Function {
    /// `Type::name`, or only the name.
    pub(crate) name: String,
    /// Lines from its signature to its closing brace.
    pub(crate) lines: u64,
}

/// What was measured in one file. Counts leave out what is under `#[cfg(test)]` or `#[test]`.
#[derive(Debug, Default)]
pub(crate) struct RustFile {
    pub(crate) has_module_doc: bool,
    pub(crate) lines: u64,
    pub(crate) test_lines: u64,
    pub(crate) functions: Vec<Function>,
    pub(crate) unwraps: u64,
    pub(crate) expects: u64,
    pub(crate) casts: u64,
    pub(crate) unsafe_lines: Vec<usize>,
    /// Names of modules declared as `#[cfg(test)] mod NAME;`, whose files are test code as a whole.
    pub(crate) test_modules: Vec<String>,
    /// Types whose names say nothing, such as `...Manager`.
    pub(crate) empty_type_names: Vec<String>,
}

/// Measures a file's text.
///
/// # Errors
/// When it is not Rust.
pub(crate) fn measure(text: &str) -> syn::Result<RustFile> {
    let syntax = syn::parse_file(text)?;
    let total = u64::try_from(text.lines().count()).unwrap_or(u64::MAX);
    let mut visitor = Visitor::default();
    visitor.visit_file(&syntax);
    let mut file = visitor.file;
    file.has_module_doc = text.lines().any(|line| line.starts_with("//!"));
    file.lines = total.saturating_sub(file.test_lines);
    Ok(file)
}

#[derive(Default)]
struct Visitor {
    file: RustFile,
    /// The type or trait of the block being visited.
    owner: Option<String>,
}

impl Visitor {
    fn function(&mut self, signature: &syn::Signature, block: &syn::Block) {
        let name = match &self.owner {
            Some(owner) => format!("{owner}::{}", signature.ident),
            None => signature.ident.to_string(),
        };
        let lines = lines_between(signature.span(), block.brace_token.span.close());
        self.file.functions.push(Function { name, lines });
        if matches!(signature.safety, syn::Safety::Unsafe(_)) {
            self.file.unsafe_lines.push(signature.span().start().line);
        }
    }

    fn within<R>(&mut self, owner: String, visit: impl FnOnce(&mut Self) -> R) -> R {
        let outer = self.owner.replace(owner);
        let result = visit(self);
        self.owner = outer;
        result
    }

    /// Whether the item is test code; then its lines are counted and it is not to be looked into.
    fn is_test(&mut self, attributes: &[syn::Attribute], span: proc_macro2::Span) -> bool {
        let test = attributes.iter().any(marks_test);
        if test {
            self.file.test_lines += lines_between(span, span);
        }
        test
    }

    fn type_name(&mut self, name: &syn::Ident) {
        let name = name.to_string();
        if ["Manager", "Helper", "Util", "Utils"].iter().any(|empty| name.ends_with(empty)) {
            self.file.empty_type_names.push(name);
        }
    }

    /// Macros are not parsed: `.unwrap()` in them is found by its tokens.
    fn tokens(&mut self, tokens: TokenStream) {
        let mut after_dot = false;
        for token in tokens {
            if let TokenTree::Ident(name) = &token {
                self.file.unwraps += u64::from(after_dot && name == "unwrap");
                self.file.expects += u64::from(after_dot && name == "expect");
                if name == "unsafe" {
                    self.file.unsafe_lines.push(name.span().start().line);
                }
            }
            after_dot = matches!(&token, TokenTree::Punct(punct) if punct.as_char() == '.');
            if let TokenTree::Group(group) = token {
                self.tokens(group.stream());
            }
        }
    }
}

impl<'ast> Visit<'ast> for Visitor {
    fn visit_item_mod(&mut self, item: &'ast syn::ItemMod) {
        if self.is_test(&item.attrs, item.span()) {
            if item.content.is_none() {
                self.file.test_modules.push(item.ident.to_string());
            }
            return;
        }
        visit::visit_item_mod(self, item);
    }

    fn visit_item_fn(&mut self, item: &'ast syn::ItemFn) {
        if self.is_test(&item.attrs, item.span()) {
            return;
        }
        self.function(&item.sig, &item.block);
        visit::visit_item_fn(self, item);
    }

    fn visit_item_impl(&mut self, item: &'ast syn::ItemImpl) {
        if self.is_test(&item.attrs, item.span()) {
            return;
        }
        if item.unsafety.is_some() {
            self.file.unsafe_lines.push(item.span().start().line);
        }
        let owner = match item.self_ty.as_ref() {
            syn::Type::Path(path) => {
                path.path.segments.last().map_or_else(String::new, |last| last.ident.to_string())
            }
            _ => String::from("impl"),
        };
        self.within(owner, |this| visit::visit_item_impl(this, item));
    }

    fn visit_item_trait(&mut self, item: &'ast syn::ItemTrait) {
        self.within(item.ident.to_string(), |this| visit::visit_item_trait(this, item));
    }

    fn visit_impl_item_fn(&mut self, item: &'ast syn::ImplItemFn) {
        if self.is_test(&item.attrs, item.span()) {
            return;
        }
        self.function(&item.sig, &item.block);
        visit::visit_impl_item_fn(self, item);
    }

    fn visit_trait_item_fn(&mut self, item: &'ast syn::TraitItemFn) {
        if let Some(block) = &item.default {
            self.function(&item.sig, block);
        }
        visit::visit_trait_item_fn(self, item);
    }

    fn visit_item_struct(&mut self, item: &'ast syn::ItemStruct) {
        self.type_name(&item.ident);
        visit::visit_item_struct(self, item);
    }

    fn visit_item_enum(&mut self, item: &'ast syn::ItemEnum) {
        self.type_name(&item.ident);
        visit::visit_item_enum(self, item);
    }

    fn visit_expr_method_call(&mut self, call: &'ast syn::ExprMethodCall) {
        self.file.unwraps += u64::from(call.method == "unwrap");
        self.file.expects += u64::from(call.method == "expect");
        visit::visit_expr_method_call(self, call);
    }

    fn visit_expr_cast(&mut self, cast: &'ast syn::ExprCast) {
        self.file.casts += 1;
        visit::visit_expr_cast(self, cast);
    }

    fn visit_expr_unsafe(&mut self, block: &'ast syn::ExprUnsafe) {
        self.file.unsafe_lines.push(block.span().start().line);
        visit::visit_expr_unsafe(self, block);
    }

    fn visit_macro(&mut self, call: &'ast syn::Macro) {
        self.tokens(call.tokens.clone());
        visit::visit_macro(self, call);
    }
}

fn marks_test(attribute: &syn::Attribute) -> bool {
    let path = attribute.path();
    if path.is_ident("cfg") {
        let Ok(list) = attribute.meta.require_list() else { return false };
        let condition = list.tokens.to_string();
        return condition == "test"
            || condition.starts_with("all (test")
            || condition.starts_with("all(test");
    }
    path.segments.last().is_some_and(|last| last.ident == "test")
}

fn lines_between(first: proc_macro2::Span, last: proc_macro2::Span) -> u64 {
    let lines = (last.end().line + 1).saturating_sub(first.start().line);
    u64::try_from(lines).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_from_the_signature_to_the_closing_brace() {
        let file = measure("//! A.\n/// Doc.\n#[inline]\nfn a(\n    x: u8,\n) {\n    b(x)\n}\n").unwrap();
        assert!(file.has_module_doc);
        assert_eq!(file.functions, [Function { name: "a".to_owned(), lines: 5 }]);
        assert_eq!(file.lines, 8);
    }

    #[test]
    fn methods_are_named_with_their_type() {
        let file =
            measure("impl<T> Iterator for Batch<T> { fn next(&mut self) -> Option<T> { None } }").unwrap();
        assert_eq!(file.functions, [Function { name: "Batch::next".to_owned(), lines: 1 }]);
        assert!(!file.has_module_doc);
    }

    #[test]
    fn unwraps_are_found_in_code_and_in_macros_and_not_in_tests() {
        let text = "fn a() { b().unwrap(); println!(\"{}\", c().unwrap()); d().expect(\"e\"); }\n\
                    #[cfg(test)]\nmod tests {\n    fn f() { g().unwrap() }\n}\n\
                    #[test]\nfn h() { i().unwrap() }\n";
        let file = measure(text).unwrap();
        assert_eq!((file.unwraps, file.expects), (2, 1));
        assert_eq!((file.lines, file.test_lines), (1, 6));
    }

    #[test]
    fn unsafe_is_found_wherever_it_may_stand() {
        let text = "unsafe fn a() {}\nunsafe impl Send for B {}\nfn c() {\n    unsafe { d() }\n}\nm! { unsafe { e() } }\n";
        assert_eq!(measure(text).unwrap().unsafe_lines, [1, 2, 4, 6]);
    }

    #[test]
    fn casts_and_empty_names_are_counted() {
        let file = measure("struct PoolManager;\nfn a(b: u8) -> u32 { b as u32 }").unwrap();
        assert_eq!(
            (file.casts, file.empty_type_names.as_slice()),
            (1, ["PoolManager".to_owned()].as_slice())
        );
    }

    #[test]
    fn a_module_of_tests_in_its_own_file_is_named() {
        assert_eq!(measure("#[cfg(test)]\nmod pair;\nmod wire;").unwrap().test_modules, ["pair"]);
    }
}
