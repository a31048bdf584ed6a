package demoprovider

// TrustFramework and NumberClaim are what the verified claims of this provider
// say; a portal believes them when its settings name them.
const (
	TrustFramework = "zhenglian_demonstration"
	NumberClaim    = "id_card_number"
	ACR            = "urn:zhenglian:demonstration"
)

// Person is somebody who does not exist.
type Person struct {
	Subject        string // stable; what a portal's [[officers]] name
	NameZH, NameEN string
	Number         string // GB 11643, region 119999
	Birth          string // 2006-01-02, as in Number
	Level          int    // what her verified claims support: 1 (there are none), 2 or 3
	RoleZH, RoleEN string // who she is in the demonstration
	Organisation   *Organisation
}

// Organisation is one that does not exist.
type Organisation struct {
	NameZH, NameEN string
	USCC           string // GB 32100, region 119999
}

// People are the persons of the demonstration. Places 3 to 6 of their numbers,
// 9999, are given to no place: no real person has such a number.
func People() []Person {
	company := &Organisation{NameZH: "青枫演示科技有限公司", NameEN: "Qingfeng Demonstration Technology Co., Ltd.", USCC: "91119999T90000012T"}
	return []Person{
		{Subject: "demo-lin", NameZH: "林若溪", NameEN: "Lin Ruoxi", Number: "119999199205149024", Birth: "1992-05-14", Level: 3, RoleZH: "插画师，权利人", RoleEN: "illustrator, right holder"},
		{Subject: "demo-chen", NameZH: "陈一鸣", NameEN: "Chen Yiming", Number: "11999919881102901X", Birth: "1988-11-02", Level: 2, RoleZH: "摄影师", RoleEN: "photographer"},
		{Subject: "demo-wu", NameZH: "吴小满", NameEN: "Wu Xiaoman", Number: "119999199907239032", Birth: "1999-07-23", Level: 1, RoleZH: "学生，尚未实名核验", RoleEN: "student, not yet verified"},
		{Subject: "demo-zhao", NameZH: "赵启明", NameEN: "Zhao Qiming", Number: "119999197903099053", Birth: "1979-03-09", Level: 3, RoleZH: "企业法定代表人", RoleEN: "legal representative of a company", Organisation: company},
		{Subject: "demo-he", NameZH: "何静文", NameEN: "He Jingwen", Number: "119999199409309042", Birth: "1994-09-30", Level: 3, RoleZH: "企业经办人", RoleEN: "agent of the company", Organisation: company},
		{Subject: "demo-sun", NameZH: "孙慧", NameEN: "Sun Hui", Number: "119999198501179063", Birth: "1985-01-17", Level: 3, RoleZH: "认证机构注册审核员", RoleEN: "registration officer of the certification authority"},
		{Subject: "demo-ma", NameZH: "马立群", NameEN: "Ma Liqun", Number: "11999919830606907X", Birth: "1983-06-06", Level: 3, RoleZH: "机构运维人员", RoleEN: "operator at the institution"},
		{Subject: "demo-gao", NameZH: "高仿", NameEN: "Gao Fang", Number: "119999199012129094", Birth: "1990-12-12", Level: 2, RoleZH: "攻击者，试图冒用他人的存证", RoleEN: "attacker, after other people's deposits"},
	}
}

// claims of a person under OpenID Connect for Identity Assurance: only those
// asked for, and nothing at level 1.
func (p *Person) verified(wanted []string, at string) map[string]any {
	if p.Level < 2 {
		return nil
	}
	all := map[string]any{"name": p.NameZH, "birthdate": p.Birth, NumberClaim: p.Number}
	claims := map[string]any{}
	for _, w := range wanted {
		if v, ok := all[w]; ok {
			claims[w] = v
		}
	}
	if len(claims) == 0 {
		return nil
	}
	// The number was compared with a register; at level 3 her face was compared too.
	check := []any{map[string]any{"check_method": "data"}}
	if p.Level >= 3 {
		check = append(check, map[string]any{"check_method": "bvr"})
	}
	return map[string]any{
		"verification": map[string]any{
			"trust_framework":      TrustFramework,
			"time":                 at,
			"verification_process": "demo-" + p.Subject,
			"evidence": []any{map[string]any{
				"type": "electronic_record", "check_details": check,
				"record": map[string]any{"type": "population_register", "source": map[string]any{"name": "演示人口登记 (demonstration register)"}},
			}},
		},
		"claims": claims,
	}
}
